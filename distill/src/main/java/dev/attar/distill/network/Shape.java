package dev.attar.distill.network;

import dev.attar.distill.DistillException;
import dev.attar.formats.Model;
import java.io.IOException;
import java.util.Set;

/**
 * The sizes and settings of a student: a decoder with RMS norms, rotary positions, grouped queries and SwiGLU, as llama.cpp runs it for the
 * architectures {@code llama} (Mistral too), {@code qwen2} and {@code qwen3}.
 *
 * @param architecture GGUF's name of it
 * @param blocks how many blocks
 * @param vocabulary tokens
 * @param embedding numbers of a token in the residual stream
 * @param feedForward neurons of each block
 * @param heads heads of queries
 * @param groups heads of keys and of values
 * @param size numbers of a head
 * @param epsilon of the norms
 * @param scale what products of queries and keys are multiplied with
 * @param rotary how positions are rotated
 * @param biases which linear layers have one: the ends of their names, {@code attn_q} and so on, the same in every block
 * @param normalized whether heads of queries and keys have norms of their own
 * @param tied whether the output head is the embedding
 */
public record Shape(
  String architecture,
  int blocks,
  int vocabulary,
  int embedding,
  int feedForward,
  int heads,
  int groups,
  int size,
  float epsilon,
  float scale,
  Rotary rotary,
  Set<String> biases,
  boolean normalized,
  boolean tied
) {
  /**
   * The shape of a model.
   *
   * @throws DistillException if it cannot be trained: another architecture, layers that differ, tensors that are missing, of another shape
   *     or unknown, a kind of positions that is not known; the message says what
   * @throws IOException if a tensor cannot be read
   */
  public static Shape of(Model model) throws IOException {
    return new ShapeReader(model).read();
  }

  /** How many weights it has. */
  public long weights() {
    return TensorShapes.of(this)
      .values()
      .stream()
      .mapToLong(size -> (long) size.rows() * size.columns())
      .sum();
  }
}
