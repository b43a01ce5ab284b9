/**
 * Presents a Hugging Face checkpoint as a {@link dev.attar.formats.Model}: an {@link dev.attar.formats.architecture.Architecture}
 * per family says which tensors there are, what they are called in GGUF, what shapes they must have, and what the metadata says.
 * Uses {@code safetensors} and {@code tokenizer}.
 */
package dev.attar.formats.architecture;
