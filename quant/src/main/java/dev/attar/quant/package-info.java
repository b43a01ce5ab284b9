/**
 * Quantization: file types and their mixtures ({@link dev.attar.quant.FileType}, {@link dev.attar.quant.Mixture}), the plan that
 * says what becomes of each tensor ({@link dev.attar.quant.QuantizationPlan}), and the run that streams a model through a plan into
 * a GGUF file ({@link dev.attar.quant.QuantizationRun}). Uses {@code formats}, {@code llama}, {@code compute}
 * and {@code calibration}.
 */
package dev.attar.quant;
