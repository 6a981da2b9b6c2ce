"""Other extensions, one file each; imported only where the other extension is there."""
