/**
 * GPTQ: {@link dev.attar.quant.gptq.GptqRun} measures what enters a model's layers and quantizes them one after the other, resumably,
 * in a work folder; one matrix at a time, on a device. Also the common run of all that needs such measurements, such as choosing types
 * for a size by {@link dev.attar.quant.budget}.
 */
package dev.attar.quant.gptq;
