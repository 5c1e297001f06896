/* The kernels as host C: what the tests run, so that the text which a GPU compiles is executed without one. */

#include "words.h"
#include "sha256.h"
