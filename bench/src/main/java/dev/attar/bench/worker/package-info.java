/**
 * The processes in which models run: {@link dev.attar.bench.worker.ModelWorker} is the parent's side of one, {@link
 * dev.attar.bench.worker.ModelWorkerMain} the worker's. The only package here that calls llama.cpp.
 */
package dev.attar.bench.worker;
