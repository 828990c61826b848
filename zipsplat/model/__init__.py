"""The network: images in, Gaussians out. One module per stage; `network.py` runs them in order."""
