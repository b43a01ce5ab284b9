/**
 * Encodings of rows: from single precision to each tensor type and back, and checks of values. {@link
 * dev.attar.formats.block.BlockEncoders} and {@link dev.attar.formats.block.BlockDecoders} give the implementation of a type; {@link
 * dev.attar.formats.block.Simd} says whether it uses vectors. Encoded bytes and decoded values are those of ggml, bit for bit.
 *
 * <p>The scalar encoders are the reference. The vector encoders keep the order of floating-point operations within a block: simple
 * ones work along the block, searches for a scale give each lane a block of its own. Kernels pass arrays and numbers to one another,
 * never vectors, which cost an object wherever the compiler does not inline.
 *
 * <p>{@code codebooks.bin} is data of the IQ formats, from ggml's published tables: see {@code Codebooks}.
 */
package dev.attar.formats.block;
