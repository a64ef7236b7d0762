"""The Slicer side of ZSADCLIP: everything that touches MRML, Qt or the application. The engine is ZSADCLIPLib."""
