package dev.attar.distill.network;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.MemoryModel;
import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.distill.DistillException;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.llama.Batch;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class NetworkTest {

  private static final Path CHECKPOINTS = Path.of("../formats/src/test/resources/checkpoints");
  private static final int CONTEXT = 24;

  private static Device device;

  @TempDir
  private Path folder;

  @BeforeAll
  static void open() throws IOException {
    device = Devices.cpu(2);
  }

  @AfterAll
  static void close() {
    device.close();
  }

  private static Model checkpoint(String name) throws IOException {
    return MemoryModel.read(name.equals("sample") ? MemoryModel.SAMPLE : CHECKPOINTS.resolve(name));
  }

  private static Network network(Model model, int sequences, boolean recompute) throws IOException {
    return Network.load(device, model, Shape.of(model), sequences, CONTEXT, recompute);
  }

  private static int[] tokens(int count, int vocabulary) {
    int[] tokens = new int[count];
    Arrays.setAll(tokens, i -> (31 * i + 5) % vocabulary);
    return tokens;
  }

  private static float[] values(Matrix matrix) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment segment = arena.allocate(4L * matrix.rows() * matrix.columns());
      device.download(matrix, segment);
      return segment.toArray(JAVA_FLOAT);
    }
  }

  private static void upload(float[] values, Matrix to) {
    try (Arena arena = Arena.ofConfined()) {
      device.upload(arena.allocateFrom(JAVA_FLOAT, values), to);
    }
  }

  private float[] logitsOfLlama(Model model, int[] tokens) throws IOException {
    Path file = MemoryModel.write(model, folder.resolve("model.gguf"));
    try (
      LlamaModel llama = LlamaModel.open(file, LlamaModel.Options.defaults());
      LlamaContext context = llama.context(new LlamaContext.Options(256, 256, 64, 1, 1));
      Batch batch = new Batch(tokens.length)
    ) {
      for (int i = 0; i < tokens.length; i++) {
        batch.add(tokens[i], i, 0, true);
      }
      context.decode(batch);
      return context.logits().toArray(JAVA_FLOAT);
    }
  }

  @ParameterizedTest
  @ValueSource(
    strings = { "sample", "llama-f32-hf", "llama-linear", "llama-yarn", "llama3-bpe", "mistral", "qwen2-yarn", "qwen3" }
  )
  void logitsAreThoseOfLlamaCpp(String name) throws IOException {
    Model model = checkpoint(name);
    try (Network network = network(model, 2, false)) {
      int[] tokens = tokens(CONTEXT, network.shape().vocabulary());
      float[] expected = logitsOfLlama(model, tokens);
      int[] twice = Arrays.copyOf(tokens, 2 * CONTEXT);
      System.arraycopy(tokens, 0, twice, CONTEXT, CONTEXT);
      float[] found = values(network.forward(twice));
      assertEquals(2 * expected.length, found.length);
      double difference = 0;
      double squares = 0;
      for (int i = 0; i < expected.length; i++) {
        difference += Math.pow(found[i] - expected[i], 2);
        squares += Math.pow(expected[i], 2);
      }
      double error = Math.sqrt(difference / squares);
      // llama.cpp keeps keys and values in half precision.
      assertTrue(error < 1e-3, "error " + error);
      assertArrayEquals(
        Arrays.copyOf(found, expected.length),
        Arrays.copyOfRange(found, expected.length, found.length)
      );
    }
  }

  /** The gradients of all weights, where the loss is the sum of the logits times {@code factors}. */
  private static List<float[]> gradients(
    Network network,
    int[] tokens,
    float[] factors,
    Network.StateGradient... states
  ) {
    for (Parameter parameter : network.parameters()) {
      device.transformer().scale(0, parameter.gradient());
    }
    Matrix logits = network.forward(tokens);
    upload(factors, logits);
    network.backward(logits, List.of(states));
    List<float[]> gradients = new ArrayList<>();
    for (Parameter parameter : network.parameters()) {
      gradients.add(values(parameter.gradient()));
    }
    return gradients;
  }

  private static float[] normal(SplittableRandom random, int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  @ParameterizedTest
  @ValueSource(strings = { "llama-f32-hf", "llama-yarn", "qwen3" })
  void gradientsAreThoseOfFiniteDifferences(String name) throws IOException {
    Model model = checkpoint(name);
    SplittableRandom random = new SplittableRandom(7);
    try (Network network = network(model, 1, false); Network recomputing = network(model, 1, true)) {
      Shape shape = network.shape();
      int[] tokens = tokens(CONTEXT, shape.vocabulary());
      float[] factors = normal(random, CONTEXT * shape.vocabulary());
      List<float[]> gradients = gradients(network, tokens, factors);
      List<float[]> again = gradients(recomputing, tokens, factors);
      PlainDecoder plain = new PlainDecoder(model, shape);
      for (int i = 0; i < gradients.size(); i++) {
        String tensor = network.parameters().get(i).name();
        assertArrayEquals(gradients.get(i), again.get(i), tensor);
        double[] weights = plain.weights(tensor);
        double[] direction = new double[weights.length];
        double expected = 0;
        double length = 0;
        for (int j = 0; j < direction.length; j++) {
          direction[j] = random.nextGaussian();
          expected += direction[j] * gradients.get(i)[j];
          length += direction[j] * direction[j] * gradients.get(i)[j] * gradients.get(i)[j];
        }
        double found =
          (loss(plain, tokens, factors, weights, direction, 1) - loss(plain, tokens, factors, weights, direction, -1)) /
          (2 * STEP);
        assertEquals(expected, found, 2e-4 * Math.sqrt(length), tensor);
      }
    }
  }

  private static final double STEP = 1e-5;

  /** The loss a step along a direction. */
  private static double loss(
    PlainDecoder plain,
    int[] tokens,
    float[] factors,
    double[] weights,
    double[] direction,
    int sign
  ) {
    double[] before = weights.clone();
    for (int i = 0; i < weights.length; i++) {
      weights[i] += sign * STEP * direction[i];
    }
    double sum = 0;
    int at = 0;
    for (double[] row : plain.logits(tokens)) {
      for (double logit : row) {
        sum += logit * factors[at++];
      }
    }
    System.arraycopy(before, 0, weights, 0, weights.length);
    return sum;
  }

  @Test
  void blocksAloneGiveWhatTheyGiveTogether() throws IOException {
    try (Network network = network(checkpoint("qwen3"), 2, false); Scope scope = device.scope()) {
      Shape shape = network.shape();
      int[] tokens = tokens(2 * CONTEXT, shape.vocabulary());
      // With no gradient of logits, and one of what leaves block 0, block 0 alone gets it.
      Matrix factors = scope.matrix(2 * CONTEXT, shape.embedding());
      upload(normal(new SplittableRandom(3), 2 * CONTEXT * shape.embedding()), factors);
      float[] none = new float[2 * CONTEXT * shape.vocabulary()];
      List<float[]> expected = gradients(network, tokens, none, new Network.StateGradient(0, factors));
      Matrix in = scope.matrix(2 * CONTEXT, shape.embedding());
      upload(values(network.state(-1)), in);
      float[] left = values(network.state(0));
      for (Parameter parameter : network.parameters()) {
        device.transformer().scale(0, parameter.gradient());
      }
      assertArrayEquals(left, values(network.blockForward(0, in)));
      network.blockBackward(0, in, factors);
      int compared = 0;
      for (int i = 0; i < expected.size(); i++) {
        Parameter parameter = network.parameters().get(i);
        if (network.parameters(0).contains(parameter)) {
          assertArrayEquals(expected.get(i), values(parameter.gradient()), parameter.name());
          compared++;
        }
      }
      assertEquals(11, compared);
    }
  }

  @Test
  void aModelThatIsAnotherIsRefused() throws IOException {
    MemoryModel model = (MemoryModel) checkpoint("llama-f32-hf");
    assertRefused(
      new MemoryModel(model.metadata().with("general.architecture", MetadataValue.string("gemma")), model.tensors()),
      "its architecture is 'gemma'"
    );
    assertRefused(
      new MemoryModel(
        model.metadata().with("llama.rope.scaling.type", MetadataValue.string("longrope")),
        model.tensors()
      ),
      "positions are scaled by 'longrope'"
    );
    assertRefused(
      new MemoryModel(model.metadata().with("llama.attention.head_count_kv", MetadataValue.uint32(3)), model.tensors()),
      "llama.attention.head_count_kv: found 3, expected a divisor of 4"
    );
    List<Tensor> more = new ArrayList<>(model.tensors());
    more.add(
      MemoryModel.tensor(new TensorInfo("blk.0.attn_sinks.weight", TensorType.F32, new long[] { 4 }), new float[4])
    );
    assertRefused(new MemoryModel(model.metadata(), more), "it has a tensor blk.0.attn_sinks.weight");
    assertRefused(
      new MemoryModel(model.metadata(), model.tensors().subList(0, model.tensors().size() - 1)),
      "it has no tensor"
    );
    assertRefused(
      new MemoryModel(model.metadata().with("llama.feed_forward_length", MetadataValue.uint32(40)), model.tensors()),
      "blk.0.ffn_gate.weight: found "
    );
    assertRefused(checkpoint("mixtral"), "it is a mixture of experts");
  }

  private static void assertRefused(Model model, String why) {
    DistillException e = assertThrows(DistillException.class, () -> Shape.of(model));
    assertTrue(e.getMessage().contains(why), e.getMessage());
  }
}
