package dev.attar.distill.network;

import dev.attar.compute.AttentionShape;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.TransformerOperations;
import java.util.List;
import java.util.function.Function;

/** A block of a decoder: attention and a feed-forward part, each normalized before and added to the residual stream. */
final class Block {

  private final Device device;
  private final TransformerOperations operations;
  private final Shape shape;
  private final AttentionShape attention;
  private final Matrix angles;
  private final List<Parameter> parameters;

  private final Parameter attentionNorm;
  private final Linear query;
  private final Linear key;
  private final Linear value;
  private final Parameter queryNorm; // null without norms of heads
  private final Parameter keyNorm;
  private final Linear attentionOutput;
  private final Parameter feedNorm;
  private final Linear gate;
  private final Linear up;
  private final Linear down;

  /**
   * @param angles of rotations (context, size)
   * @param parameters the block's own
   * @param find finds one of them by the end of its name; null if there is none
   */
  Block(Device device, Shape shape, Matrix angles, List<Parameter> parameters, Function<String, Parameter> find) {
    this.device = device;
    this.operations = device.transformer();
    this.shape = shape;
    this.angles = angles;
    this.parameters = List.copyOf(parameters);
    attention = new AttentionShape(angles.rows(), shape.heads(), shape.groups(), shape.size(), shape.scale(), 0);
    attentionNorm = find.apply("attn_norm.weight");
    query = linear(TensorShapes.QUERY, find);
    key = linear(TensorShapes.KEY, find);
    value = linear(TensorShapes.VALUE, find);
    queryNorm = find.apply("attn_q_norm.weight");
    keyNorm = find.apply("attn_k_norm.weight");
    attentionOutput = linear(TensorShapes.ATTENTION_OUTPUT, find);
    feedNorm = find.apply("ffn_norm.weight");
    gate = linear(TensorShapes.GATE, find);
    up = linear(TensorShapes.UP, find);
    down = linear(TensorShapes.DOWN, find);
  }

  private static Linear linear(String name, Function<String, Parameter> find) {
    return new Linear(find.apply(name + ".weight"), find.apply(name + ".bias"));
  }

  List<Parameter> parameters() {
    return parameters;
  }

  /**
   * Computes what leaves the block.
   *
   * @param in the stream that enters (n, embedding)
   * @param to gets what gradients need
   * @param out gets the stream that leaves (n, embedding)
   */
  void forward(Matrix in, Activations to, Matrix out) {
    compute(in, to);
    down.forward(device, to.neurons(), out);
    device.add(1, to.middle(), out);
  }

  /** Computes what gradients need. */
  void compute(Matrix in, Activations to) {
    operations.rmsNorm(in, attentionNorm.value(), shape.epsilon(), to.attentionInput());
    query.forward(device, to.attentionInput(), shape.normalized() ? to.rawQuery() : to.query());
    key.forward(device, to.attentionInput(), shape.normalized() ? to.rawKey() : to.key());
    value.forward(device, to.attentionInput(), to.value());
    if (shape.normalized()) {
      operations.rmsNorm(to.rawQuery(), queryNorm.value(), shape.epsilon(), to.query());
      operations.rmsNorm(to.rawKey(), keyNorm.value(), shape.epsilon(), to.key());
    }
    rotate(to.query(), false);
    rotate(to.key(), false);
    operations.attend(to.query(), to.key(), to.value(), attention, to.attended(), to.logSums());
    attentionOutput.forward(device, to.attended(), to.middle());
    device.add(1, in, to.middle());
    operations.rmsNorm(to.middle(), feedNorm.value(), shape.epsilon(), to.feedInput());
    gate.forward(device, to.feedInput(), to.gate());
    up.forward(device, to.feedInput(), to.up());
    operations.swiGlu(to.gate(), to.up(), to.neurons());
  }

  private void rotate(Matrix heads, boolean back) {
    operations.rotate(heads, shape.size(), angles, shape.rotary().neighbours(), back);
  }

  /**
   * Adds to the gradients of the weights.
   *
   * @param in the stream that entered
   * @param a what {@link #compute} gave, which is overwritten
   * @param g room
   * @param stream the gradient of what left; becomes that of what entered
   */
  void backward(Matrix in, Activations a, Gradients g, Matrix stream) {
    down.backward(device, a.neurons(), stream, false, g.neurons());
    operations.swiGluGradient(a.gate(), a.up(), g.neurons(), a.gate(), a.up());
    gate.backward(device, a.feedInput(), a.gate(), false, g.stream());
    up.backward(device, a.feedInput(), a.up(), true, g.stream());
    normBackward(a.middle(), feedNorm, g.stream(), true, stream);

    attentionOutput.backward(device, a.attended(), stream, false, g.query());
    operations.attendGradient(
      a.query(),
      a.key(),
      a.value(),
      attention,
      a.attended(),
      a.logSums(),
      g.query(),
      g.query(),
      g.key(),
      g.value()
    );
    rotate(g.query(), true);
    rotate(g.key(), true);
    if (shape.normalized()) {
      normBackward(a.rawQuery(), queryNorm, g.query(), false, g.query());
      normBackward(a.rawKey(), keyNorm, g.key(), false, g.key());
    }
    query.backward(device, a.attentionInput(), g.query(), false, g.stream());
    key.backward(device, a.attentionInput(), g.key(), true, g.stream());
    value.backward(device, a.attentionInput(), g.value(), true, g.stream());
    normBackward(in, attentionNorm, g.stream(), true, stream);
  }

  private void normBackward(Matrix x, Parameter norm, Matrix out, boolean add, Matrix to) {
    operations.rmsNormGradient(x, norm.value(), shape.epsilon(), out, add, to, norm.gradient());
  }
}
