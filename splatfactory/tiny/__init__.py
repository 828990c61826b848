"""What training `zipsplat-tiny` needs beyond the released recipe; every option of it is off there.

Models, losses and training import these parts, they import nothing of those.
"""
