/** Bindings to llama.cpp (pinned to v0.5.0) by the foreign-function API. Uses no other module of the project. */
package dev.attar.llama;
