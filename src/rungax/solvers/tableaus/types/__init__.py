"""The kinds of tables that hold the coefficients of methods."""
