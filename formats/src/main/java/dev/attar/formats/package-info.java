/**
 * Checkpoints on disk. This package holds the form in which every command sees a model ({@link dev.attar.formats.Model}: metadata
 * and tensors); the packages below it read and write files: {@code gguf}, {@code safetensors}, {@code tokenizer}, {@code
 * architecture} (Hugging Face names, shapes and settings to GGUF's), {@code block} (encodings of rows), {@code imatrix}. Uses no
 * other module of the project.
 */
package dev.attar.formats;
