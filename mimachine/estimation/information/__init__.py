"""Mutual information: KSG and variational bounds."""
