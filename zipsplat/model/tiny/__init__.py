"""What small networks such as `zipsplat-tiny` have and the released ones do without.

The backbone imports these parts, they import nothing of it.
"""
