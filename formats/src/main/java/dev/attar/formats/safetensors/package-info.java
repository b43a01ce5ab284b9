/**
 * Reads safetensors files, alone or as shards with an index, memory-mapped, and writes them. The format: <a
 * href="https://github.com/huggingface/safetensors#format">safetensors</a>.
 */
package dev.attar.formats.safetensors;
