/**
 * GGUF files: {@link dev.attar.formats.gguf.GgufModel} reads versions 2 and 3, {@link dev.attar.formats.gguf.GgufWriter} writes
 * version 3, {@link dev.attar.formats.gguf.GgufLayout} says where everything will lie without writing. The format is described in
 * ggml's {@code docs/gguf.md}.
 */
package dev.attar.formats.gguf;
