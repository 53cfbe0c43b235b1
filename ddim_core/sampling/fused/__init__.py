"""Blocks of the networks as single kernels for the CPU, written in C++ (``csrc``); never on Ascend."""
