package dev.attar.distill.network;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.compute.TransformerOperations;
import dev.attar.distill.network.TensorShapes.Size;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A student on a device: its weights, and room for the activations of a batch. Sequences of a batch follow each other; rows are tokens. For
 * one thread.
 */
public final class Network implements AutoCloseable {

  private static final ValueLayout.OfFloat LITTLE_ENDIAN = JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Numbers that are decoded together. */
  private static final int BAND = 1 << 20;

  private final Device device;
  private final TransformerOperations operations;
  private final Scope scope;
  private final Shape shape;
  private final boolean recompute;
  private final Map<String, Parameter> parameters = new LinkedHashMap<>();
  private final List<Block> blocks = new ArrayList<>();
  private final Room room;

  private int[] tokens = new int[0]; // of the last forward
  private Room used; // the rows of these

  /**
   * Room for activations.
   *
   * @param streams what enters each block, and what leaves the last one (n, embedding)
   * @param blocks activations of each block; of all in turn if they are recomputed
   * @param gradients of a block
   * @param stream the gradient of the residual stream (n, embedding)
   * @param output the normalized stream (n, embedding)
   * @param logits (n, vocabulary)
   */
  private record Room(
    List<Matrix> streams,
    List<Activations> blocks,
    Gradients gradients,
    Matrix stream,
    Matrix output,
    Matrix logits
  ) {
    Room first(int rows) {
      return rows == stream.rows()
        ? this
        : new Room(
            streams
              .stream()
              .map(matrix -> matrix.rows(0, rows))
              .toList(),
            blocks
              .stream()
              .map(block -> block.first(rows))
              .toList(),
            gradients.first(rows),
            stream.rows(0, rows),
            output.rows(0, rows),
            logits.rows(0, rows)
          );
    }

    Activations block(int number) {
      return blocks.get(number % blocks.size());
    }
  }

  private Network(Device device, Scope scope, Model model, Shape shape, int sequences, int context, boolean recompute)
    throws IOException {
    this.device = device;
    this.operations = device.transformer();
    this.scope = scope;
    this.shape = shape;
    this.recompute = recompute;
    loadParameters(model);
    Matrix angles = scope.matrix(context, 2 * shape.rotary().frequencies().length);
    upload(shape.rotary().angles(context), angles);
    for (int i = 0; i < shape.blocks(); i++) {
      int number = i;
      String prefix = TensorShapes.name(number, "");
      List<Parameter> own = parameters
        .values()
        .stream()
        .filter(parameter -> parameter.name().startsWith(prefix))
        .toList();
      blocks.add(new Block(device, shape, angles, own, part -> parameters.get(prefix + part)));
    }
    room = allocate(Math.multiplyExact(sequences, context));
  }

  /**
   * Loads a student.
   *
   * @param model its weights, decoded to single precision
   * @param sequences the most sequences of a batch
   * @param context tokens in a sequence
   * @param recompute whether to compute a block's activations anew when its gradient is, instead of keeping all blocks'
   * @throws dev.attar.compute.OutOfDeviceMemoryException if the device has no room for it
   * @throws IOException if weights cannot be read
   */
  public static Network load(Device device, Model model, Shape shape, int sequences, int context, boolean recompute)
    throws IOException {
    Scope scope = device.scope();
    try {
      return new Network(device, scope, model, shape, sequences, context, recompute);
    } catch (IOException | RuntimeException e) {
      scope.close();
      throw e;
    }
  }

  private void loadParameters(Model model) throws IOException {
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    model.tensors().forEach(tensor -> tensors.put(tensor.info().name(), tensor));
    for (Map.Entry<String, Size> entry : TensorShapes.of(shape).entrySet()) {
      Size size = entry.getValue();
      Matrix value = scope.matrix(size.rows(), size.columns());
      Tensor tensor = tensors.get(entry.getKey());
      int band = Math.clamp(BAND / size.columns(), 1, size.rows());
      float[] values = new float[Math.multiplyExact(band, size.columns())];
      for (int row = 0; row < size.rows(); row += band) {
        int rows = Math.min(band, size.rows() - row);
        tensor.decodeRows(row, rows, values, 0);
        upload(values, value.rows(row, rows));
      }
      parameters.put(
        entry.getKey(),
        new Parameter(
          entry.getKey(),
          !size.isVector(),
          value,
          scope.matrix(size.rows(), size.columns()),
          scope.matrix(size.rows(), size.columns()),
          scope.matrix(size.rows(), size.columns())
        )
      );
    }
  }

  private void upload(float[] values, Matrix to) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment segment = arena.allocate(4L * to.rows() * to.columns());
      MemorySegment.copy(values, 0, segment, LITTLE_ENDIAN, 0, to.rows() * to.columns());
      device.upload(segment, to);
    }
  }

  private Room allocate(int rows) {
    List<Matrix> streams = new ArrayList<>();
    for (int i = 0; i <= shape.blocks(); i++) {
      streams.add(scope.matrix(rows, shape.embedding()));
    }
    List<Activations> activations = new ArrayList<>();
    for (int i = 0; i < (recompute ? 1 : shape.blocks()); i++) {
      activations.add(Activations.allocate(scope, shape, rows));
    }
    return new Room(
      streams,
      activations,
      Gradients.allocate(scope, shape, rows),
      scope.matrix(rows, shape.embedding()),
      scope.matrix(rows, shape.embedding()),
      scope.matrix(rows, shape.vocabulary())
    );
  }

  /** Bytes of the device's memory that {@link #load} takes. */
  public static long bytes(Shape shape, int sequences, int context, boolean recompute) {
    long blocks = (recompute ? 1L : shape.blocks()) * Activations.rowLength(shape);
    long streams = (shape.blocks() + 3L) * shape.embedding();
    long row = blocks + streams + Gradients.rowLength(shape) + shape.vocabulary();
    long angles = (long) context * shape.size();
    return Float.BYTES * (4 * shape.weights() + angles + row * sequences * context);
  }

  /** Its sizes. */
  public Shape shape() {
    return shape;
  }

  /** The weights, in a fixed order: GGUF's names. */
  public List<Parameter> parameters() {
    return List.copyOf(parameters.values());
  }

  /** The weights of one block: blk.N. */
  public List<Parameter> parameters(int block) {
    return blocks.get(block).parameters();
  }

  /**
   * Computes logits.
   *
   * @param sequences tokens of whole sequences, at most as many as there is room for; kept, and must not be changed before {@link
   *     #backward}
   * @return (n, vocabulary), in the network's memory: valid until the next call; may be overwritten
   */
  public Matrix forward(int[] sequences) {
    tokens = sequences;
    used = room.first(sequences.length);
    operations.embed(sequences, value(TensorShapes.EMBEDDING), used.streams.getFirst());
    for (int i = 0; i < blocks.size(); i++) {
      blocks.get(i).forward(used.streams.get(i), used.block(i), used.streams.get(i + 1));
    }
    operations.rmsNorm(used.streams.getLast(), value(TensorShapes.OUTPUT_NORM), shape.epsilon(), used.output);
    device.gemm(1, used.output, false, head().value(), true, 0, used.logits);
    return used.logits;
  }

  private Matrix value(String name) {
    return parameters.get(name).value();
  }

  private Parameter head() {
    return parameters.get(shape.tied() ? TensorShapes.EMBEDDING : TensorShapes.OUTPUT);
  }

  /**
   * What left a block in the last {@link #forward}: (n, embedding), to be read only. -1 for what entered the first one.
   */
  public Matrix state(int block) {
    return used.streams.get(block + 1);
  }

  /** A gradient with respect to what leaves a block, for {@link #backward}. */
  public record StateGradient(int block, Matrix gradient) {}

  /**
   * Adds the gradients of the last {@link #forward} to those of the weights. Once only: what it needs is overwritten.
   *
   * @param logits the gradient with respect to the logits; may be the matrix that forward returned, and is not needed any more
   * @param states gradients with respect to what leaves some blocks (-1 for what enters the first), in any order
   */
  public void backward(Matrix logits, List<StateGradient> states) {
    Parameter norm = parameters.get(TensorShapes.OUTPUT_NORM);
    Linear head = new Linear(head(), null);
    Matrix stream = used.stream;
    head.backward(device, used.output, logits, false, used.gradients.stream());
    operations.rmsNormGradient(
      used.streams.getLast(),
      norm.value(),
      shape.epsilon(),
      used.gradients.stream(),
      false,
      stream,
      norm.gradient()
    );
    for (int i = blocks.size() - 1; i >= 0; i--) {
      addStates(states, i, stream);
      Matrix in = used.streams.get(i);
      if (recompute && i < blocks.size() - 1) {
        // The last one's are still there.
        blocks.get(i).compute(in, used.block(i));
      }
      blocks.get(i).backward(in, used.block(i), used.gradients, stream);
    }
    addStates(states, -1, stream);
    operations.embedGradient(tokens, stream, parameters.get(TensorShapes.EMBEDDING).gradient());
  }

  private void addStates(List<StateGradient> states, int block, Matrix stream) {
    for (StateGradient state : states) {
      if (state.block == block) {
        device.add(1, state.gradient, stream);
      }
    }
  }

  /**
   * Computes one block alone.
   *
   * @param in what enters it (n, embedding), in whole sequences, kept by the caller until {@link #blockBackward}
   * @return what leaves it (n, embedding), valid until the next call; may be overwritten
   */
  public Matrix blockForward(int block, Matrix in) {
    used = room.first(in.rows());
    Matrix out = used.streams.get(block + 1);
    blocks.get(block).forward(in, used.block(block), out);
    return out;
  }

  /**
   * Adds the gradients of the last {@link #blockForward}, which must have been of this block, to those of the block's weights.
   *
   * @param in what entered it, as given to blockForward
   * @param out the gradient with respect to what leaves it; replaced by that with respect to {@code in}
   */
  public void blockBackward(int block, Matrix in, Matrix out) {
    blocks.get(block).backward(in, used.block(block), used.gradients, out);
  }

  /** Frees its memory. */
  @Override
  public void close() {
    scope.close();
  }
}
