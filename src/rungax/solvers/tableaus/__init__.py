"""The coefficients of all methods, one file for each; `types` has the classes that hold them."""
