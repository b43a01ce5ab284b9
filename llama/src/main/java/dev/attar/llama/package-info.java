/**
 * Bindings to llama.cpp (pinned to v0.5.0) by the foreign-function API, and worker processes to run it in: a
 * {@link dev.attar.llama.WorkerProcess} survives what native code does to its process. Uses no other module of the project.
 */
package dev.attar.llama;
