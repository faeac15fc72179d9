"""The optional compiled kernels of the engine on a CPU, each a C++ source and the class that calls it."""
