/**
 * Presents a Hugging Face checkpoint as a {@link dev.attar.formats.Model}: an {@link dev.attar.formats.architecture.Architecture}
 * per family says which tensors there are, what they are called in GGUF, what shapes they must have, and what the metadata says.
 * {@link dev.attar.formats.architecture.HuggingFaceWriter} goes the other way, {@link dev.attar.formats.architecture.NewCheckpoint} writes
 * a checkpoint that was not there before. Uses {@code safetensors}, {@code tokenizer}, and of {@code gguf} what checks the room for an
 * output.
 */
package dev.attar.formats.architecture;
