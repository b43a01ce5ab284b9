/**
 * Reads a Hugging Face checkpoint's tokenizer files and says what they say in GGUF's {@code tokenizer.*} keys: SentencePiece models,
 * byte-level BPE and BPE with byte fallback, added and special tokens, chat templates. Keys and values are those of llama.cpp
 * v0.5.0's converter; only the pre-tokenizer is found otherwise, see {@link dev.attar.formats.tokenizer.PreTokenizer}.
 */
package dev.attar.formats.tokenizer;
