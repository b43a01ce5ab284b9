/** What a model's logits say of its accuracy: scores of single tokens by SIMD code, and their statistics over a text. */
package dev.attar.bench.accuracy;
