/**
 * LoRA adapters: those of llama.cpp in GGUF and those of PEFT in safetensors, read for a base model and checked against it. Uses {@code
 * gguf}, {@code safetensors} and {@code architecture}.
 */
package dev.attar.formats.adapter;
