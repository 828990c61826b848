"""Parts that only small networks such as `zipsplat-tiny` have.

The backbone imports these modules; they import nothing from it.
"""
