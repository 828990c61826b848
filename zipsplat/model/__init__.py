"""The network: images in, Gaussians out. One module per stage, `network.py` puts them in order."""
