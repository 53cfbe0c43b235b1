// Which sources the library was built from: Python finds the mark in the file before it loads it (library.py).
#ifndef DDIM_SOURCES
#error "DDIM_SOURCES must be the hash of the sources"
#endif

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

extern "C" const char ddim_sources[] = "ddim-fused-sources:" TEXT(DDIM_SOURCES);
