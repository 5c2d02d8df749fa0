"""Products with the Hessian and its kin, and whole matrices of them: made, chosen among, and checked."""
