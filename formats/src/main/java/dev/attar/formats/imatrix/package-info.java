/**
 * Importance matrices: what llama.cpp's {@code llama-imatrix} writes, in the GGUF form and the older {@code .dat} form, turned into
 * the weights of a tensor's columns as {@code llama-quantize} does.
 */
package dev.attar.formats.imatrix;
