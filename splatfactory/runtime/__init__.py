"""What training and evaluation both need of a process: its group, folder, randomness, memory."""
