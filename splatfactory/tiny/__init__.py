"""Parts of `zipsplat-tiny`'s training that the released recipe does without; off by default.

Models, losses and training import these parts, never the reverse.
"""
