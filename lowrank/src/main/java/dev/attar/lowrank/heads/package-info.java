/**
 * Attention heads of a smaller size, for models whose graph in llama.cpp is Llama's: rotary pairs of queries and keys give way to fewer,
 * values and outputs are projected and fitted anew ({@link dev.attar.lowrank.heads.HeadSize}), and what is left is a smaller model of the
 * same architecture ({@link dev.attar.lowrank.heads.SmallerHeads}).
 */
package dev.attar.lowrank.heads;
