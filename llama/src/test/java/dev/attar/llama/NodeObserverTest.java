package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NodeObserverTest {

  private static final Path MODEL = LlamaContextTest.TINY.resolve("model.gguf");
  private static final int[] TOKENS = LlamaContextTest.TOKENS;
  private static final LlamaContext.Options OPTIONS = new LlamaContext.Options(256, 256, 64, 1, 1);
  private static final String QUERY = "blk.0.attn_q.weight";
  private static final int WIDTH = 32;
  private static final int F32 = 0;

  private static LlamaModel mapped;
  private static LlamaModel model;

  @BeforeAll
  static void open() throws IOException {
    mapped = LlamaModel.open(MODEL, LlamaModel.Options.defaults());
    model = LlamaModel.open(MODEL, new LlamaModel.Options(OptionalInt.empty(), false, false, null));
  }

  @AfterAll
  static void close() {
    mapped.close();
    model.close();
  }

  /** Keeps the names of the weights in whose products it was asked for, and in those that it was told of. */
  private static final class Products implements NodeObserver {

    private final Predicate<Node> wanted;
    private final Predicate<Node> goOn;
    private final List<String> asked = new ArrayList<>();
    private final List<String> told = new ArrayList<>();

    /** Wants the products with the weights that are wanted, and goes on as it is told. */
    Products(Predicate<Node> wanted, Predicate<Node> goOn) {
      this.wanted = wanted;
      this.goOn = goOn;
    }

    @Override
    public boolean wants(Node node) {
      Optional<Node> weight = weightOf(node);
      weight.ifPresent(w -> asked.add(w.name()));
      return weight.isPresent() && wanted.test(weight.get());
    }

    @Override
    public boolean computed(Node node) {
      told.add(weightOf(node).orElseThrow().name());
      return goOn.test(node);
    }
  }

  private static Optional<Node> weightOf(Node node) {
    return node.op() == Node.Op.MUL_MAT ? node.source(0).filter(n -> n.weight().isPresent()) : Optional.empty();
  }

  private static Predicate<Node> named(String name) {
    return node -> node.name().equals(name);
  }

  private static boolean decode(LlamaContext context, int[] tokens) throws IOException {
    try (Batch batch = new Batch(tokens.length)) {
      for (int i = 0; i < tokens.length; i++) {
        batch.add(tokens[i], i, 0, true);
      }
      context.clear();
      return context.decode(batch);
    }
  }

  private static float[] logits(LlamaContext context) throws IOException {
    assertTrue(decode(context, TOKENS));
    return context.logits().toArray(JAVA_FLOAT);
  }

  private static float[] unobserved() throws IOException {
    try (LlamaContext context = model.context(OPTIONS)) {
      return logits(context);
    }
  }

  /** The element of a float32 tensor at a place of its first two dimensions. */
  private static float element(Node node, MemorySegment data, long i, long j) {
    assertEquals(F32, node.type());
    return data.get(JAVA_FLOAT_UNALIGNED, i * node.nb(0) + j * node.nb(1));
  }

  @Test
  void theStructIsThatOfTheHeader() {
    // The number is a C compiler's sizeof on the pinned release's header. Loading the library has compared the fields with it.
    assertEquals(336, GgmlTensors.LAYOUT.byteSize());
  }

  @Test
  void seesEveryProductOfALayer() throws IOException {
    Products products = new Products(_ -> true, _ -> true);
    try (LlamaContext context = mapped.context(OPTIONS, products)) {
      logits(context);
    }
    List<String> expected = new ArrayList<>();
    for (int layer = 0; layer < 2; layer++) {
      for (String name : List.of("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")) {
        expected.add("blk." + layer + "." + name + ".weight");
      }
    }
    expected.add("output.weight");
    assertEquals(expected.stream().sorted().toList(), products.told.stream().sorted().toList());
    assertEquals(products.asked, products.told);
  }

  @Test
  void showsWhatANodeIsMadeFrom() throws IOException {
    List<String> seen = new ArrayList<>();
    NodeObserver observer = new NodeObserver() {
      @Override
      public boolean wants(Node node) {
        return weightOf(node).filter(named(QUERY)).isPresent();
      }

      @Override
      public boolean computed(Node node) {
        Node weight = node.source(0).orElseThrow();
        Node input = node.source(1).orElseThrow();
        assertTrue(node.source(2).isEmpty());
        assertEquals(Node.Op.OTHER, weight.op());
        seen.add(
          weight +
            " " +
            input.toString().replaceFirst("^.* \\{", "{") +
            " " +
            node.toString().replaceFirst("^.* \\{", "{")
        );
        assertEquals(F32, weight.type());
        assertEquals(List.of(4L, 128L, 4096L, 4096L), IntStream.range(0, 4).mapToObj(weight::nb).toList());
        assertEquals(4096, weight.bytes());
        assertTrue(weight.isHost() && input.isHost() && node.isHost());
        assertTrue(weight.weight().isPresent());
        assertTrue(input.weight().isEmpty() && node.weight().isEmpty());
        assertEquals(input.bytes(), input.data().byteSize());
        try (Arena arena = Arena.ofConfined()) {
          MemorySegment copy = arena.allocate(input.bytes());
          input.read(copy);
          assertEquals(-1, copy.mismatch(input.data()));
          assertThrows(IllegalArgumentException.class, () -> input.read(copy.asSlice(4)));
          weight.read(arena.allocate(weight.bytes()));
        }
        assertThrows(IndexOutOfBoundsException.class, () -> node.ne(4));
        assertThrows(IndexOutOfBoundsException.class, () -> node.nb(-1));
        assertThrows(IndexOutOfBoundsException.class, () -> node.source(10));
        assertThrows(IllegalArgumentException.class, () -> node.data().set(JAVA_BYTE, 0, (byte) 1));
        return true;
      }
    };
    try (LlamaContext context = mapped.context(OPTIONS, observer)) {
      logits(context);
    }
    assertEquals(List.of(QUERY + " {32, 32, 1, 1} {32, 24, 1, 1} {32, 24, 1, 1}"), seen);
  }

  @Test
  void queriesKeysAndValuesShareTheirInput() throws IOException {
    Map<String, Long> inputs = new HashMap<>();
    Map<String, float[]> values = new HashMap<>();
    Products products = new Products(
      w -> w.name().startsWith("blk.1.attn"),
      node -> {
        Node input = node.source(1).orElseThrow();
        String name = node.source(0).orElseThrow().name();
        inputs.put(name, input.address());
        values.put(name, input.data().toArray(JAVA_FLOAT));
        return true;
      }
    );
    try (LlamaContext context = mapped.context(OPTIONS, products)) {
      logits(context);
    }
    assertEquals(4, inputs.size());
    assertEquals(inputs.get("blk.1.attn_q.weight"), inputs.get("blk.1.attn_k.weight"));
    assertEquals(inputs.get("blk.1.attn_q.weight"), inputs.get("blk.1.attn_v.weight"));
    assertArrayEquals(values.get("blk.1.attn_q.weight"), values.get("blk.1.attn_v.weight"));
    assertNotEquals(inputs.get("blk.1.attn_q.weight"), inputs.get("blk.1.attn_output.weight"));
  }

  @Test
  void aProductIsThatOfItsSources() throws IOException {
    List<String> checked = new ArrayList<>();
    Products products = new Products(
      _ -> true,
      node -> {
        Node weight = node.source(0).orElseThrow();
        Node input = node.source(1).orElseThrow();
        assertEquals(weight.ne(0), input.ne(0));
        assertEquals(List.of(weight.ne(1), input.ne(1)), List.of(node.ne(0), node.ne(1)));
        MemorySegment w = weight.data();
        MemorySegment x = input.data();
        MemorySegment y = node.data();
        for (long row = 0; row < node.ne(0); row++) {
          for (long token = 0; token < node.ne(1); token++) {
            double sum = 0;
            for (long i = 0; i < weight.ne(0); i++) {
              sum += (double) element(weight, w, i, row) * element(input, x, i, token);
            }
            assertEquals(sum, element(node, y, row, token), 1e-5 * (1 + Math.abs(sum)), weight::name);
          }
        }
        checked.add(weight.name());
        return true;
      }
    );
    try (LlamaContext context = mapped.context(OPTIONS, products)) {
      logits(context);
    }
    assertEquals(15, checked.size());
  }

  @Test
  void observingChangesNoLogits() throws IOException {
    float[] expected = unobserved();
    for (LlamaModel each : List.of(mapped, model)) {
      try (
        LlamaContext all = each.context(OPTIONS, new Products(_ -> true, _ -> true));
        LlamaContext none = each.context(OPTIONS, new Products(_ -> false, _ -> true))
      ) {
        assertArrayEquals(expected, logits(all));
        assertArrayEquals(expected, logits(none));
        assertArrayEquals(expected, logits(all));
      }
    }
  }

  @Test
  void eachMicroBatchHasAGraph() throws IOException {
    List<Long> tokens = new ArrayList<>();
    Products products = new Products(named(QUERY), node -> tokens.add(node.ne(1)));
    try (LlamaContext context = mapped.context(new LlamaContext.Options(256, 256, 10, 1, 1), products)) {
      logits(context);
    }
    assertEquals(List.of(10L, 10L, 4L), tokens);
  }

  @Test
  void theLastLayerComputesTheOutputsOnly() throws IOException {
    Map<String, Long> tokens = new HashMap<>();
    Products products = new Products(
      _ -> true,
      node -> {
        tokens.put(node.source(0).orElseThrow().name(), node.ne(1));
        return true;
      }
    );
    try (LlamaContext context = mapped.context(OPTIONS, products); Batch batch = new Batch(8)) {
      for (int i = 0; i < 8; i++) {
        batch.add(TOKENS[i], i, 0, i == 7);
      }
      assertTrue(context.decode(batch));
    }
    assertEquals(8, tokens.get("blk.0.ffn_down.weight"));
    assertEquals(8, tokens.get("blk.1.attn_q.weight"));
    assertEquals(1, tokens.get("blk.1.ffn_down.weight"));
  }

  @Test
  void stopsBehindANode() throws IOException {
    boolean[] stop = { true };
    Products products = new Products(
      _ -> true,
      node -> !(stop[0] && node.source(0).orElseThrow().name().equals("blk.0.ffn_up.weight"))
    );
    float[] expected = unobserved();
    try (LlamaContext context = model.context(OPTIONS, products)) {
      for (int round = 0; round < 3; round++) {
        products.told.clear();
        stop[0] = true;
        assertFalse(decode(context, TOKENS));
        assertEquals("blk.0.ffn_up.weight", products.told.getLast());
        assertEquals(0, context.logits().byteSize());
        stop[0] = false;
        assertArrayEquals(expected, logits(context));
      }
    }
  }

  /** The layers in front of the stop remember the first micro-batches, so that the later ones see what they should. */
  @Test
  void stopsInEachMicroBatch() throws IOException {
    List<float[]> whole = new ArrayList<>();
    List<float[]> parts = new ArrayList<>();
    String last = "blk.1.attn_q.weight";
    LlamaContext.Options small = new LlamaContext.Options(256, 256, 8, 1, 1);
    for (List<float[]> inputs : List.of(whole, parts)) {
      Products products = new Products(named(last), node -> {
        inputs.add(node.source(1).orElseThrow().data().toArray(JAVA_FLOAT));
        return inputs == whole;
      });
      try (LlamaContext context = mapped.context(small, products)) {
        assertEquals(inputs == whole, decode(context, TOKENS));
        assertEquals(List.of(last, last, last), products.told);
      }
    }
    for (int i = 0; i < 3; i++) {
      assertEquals(8 * WIDTH, parts.get(i).length);
      assertArrayEquals(whole.get(i), parts.get(i));
    }
  }

  @Test
  void whatTheObserverThrowsComesOutOfDecode() throws IOException {
    IllegalStateException exception = new IllegalStateException("enough");
    AssertionError error = new AssertionError("much too much");
    Throwable[] next = { null };
    boolean[] whenAsked = { false };
    int[] calls = { 0 };
    NodeObserver observer = new NodeObserver() {
      @Override
      public boolean wants(Node node) {
        calls[0]++;
        fail(whenAsked[0]);
        return true;
      }

      @Override
      public boolean computed(Node node) {
        calls[0]++;
        fail(!whenAsked[0]);
        return true;
      }

      private void fail(boolean here) {
        if (here && next[0] instanceof RuntimeException e) {
          throw e;
        }
        if (here && next[0] instanceof Error e) {
          throw e;
        }
      }
    };
    try (LlamaContext context = model.context(new LlamaContext.Options(256, 256, 8, 1, 1), observer)) {
      float[] before = logits(context);
      for (Throwable thrown : List.of(exception, error)) {
        for (boolean asked : new boolean[] { true, false }) {
          next[0] = thrown;
          whenAsked[0] = asked;
          calls[0] = 0;
          assertSame(thrown, assertThrows(thrown.getClass(), () -> decode(context, TOKENS)));
          assertEquals(asked ? 1 : 2, calls[0]);
          assertEquals(0, context.logits().byteSize());
          next[0] = null;
          assertArrayEquals(before, logits(context));
        }
      }
    }
  }

  @Test
  void aNodeEndsWithItsCall() throws IOException {
    List<Node> nodes = new ArrayList<>();
    List<MemorySegment> data = new ArrayList<>();
    Products products = new Products(
      w -> nodes.add(w) && named(QUERY).test(w),
      node -> nodes.add(node) && data.add(node.data())
    );
    try (LlamaContext context = mapped.context(OPTIONS, products)) {
      logits(context);
    }
    for (Node node : nodes) {
      assertThrows(IllegalStateException.class, node::name);
      assertThrows(IllegalStateException.class, () -> node.ne(0));
      assertThrows(IllegalStateException.class, () -> node.source(0));
      assertThrows(IllegalStateException.class, node::data);
      assertThrows(IllegalStateException.class, node::weight);
    }
    assertThrows(IllegalStateException.class, () -> data.getFirst().get(JAVA_FLOAT, 0));
  }

  @Test
  void anObserverCannotUseItsContext() throws IOException {
    LlamaContext[] own = { null };
    List<Class<?>> thrown = new ArrayList<>();
    Products products = new Products(named(QUERY), _ -> {
      thrown.add(assertThrows(IllegalStateException.class, own[0]::clear).getClass());
      thrown.add(assertThrows(IllegalStateException.class, () -> decode(own[0], TOKENS)).getClass());
      thrown.add(assertThrows(IllegalStateException.class, own[0]::close).getClass());
      return true;
    });
    try (LlamaContext context = mapped.context(OPTIONS, products)) {
      own[0] = context;
      logits(context);
    }
    assertEquals(3, thrown.size());
  }

  @Test
  void otherThreadsCanReadWhatIsComputed() throws IOException {
    float[][] seen = new float[2][];
    Products products = new Products(named(QUERY), node -> {
      MemorySegment data = node.data();
      seen[0] = data.toArray(JAVA_FLOAT);
      Thread reader = Thread.ofPlatform().start(() -> seen[1] = data.toArray(JAVA_FLOAT));
      try {
        reader.join();
      } catch (InterruptedException e) {
        throw new AssertionError(e);
      }
      return true;
    });
    try (LlamaContext context = mapped.context(OPTIONS, products)) {
      logits(context);
    }
    assertArrayEquals(seen[0], seen[1]);
  }

  private static WeightTensor weight(LlamaModel of, String name, List<byte[]> content) throws IOException {
    List<WeightTensor> found = new ArrayList<>();
    Products products = new Products(named(name), node -> {
      Node source = node.source(0).orElseThrow();
      content.add(source.data().toArray(JAVA_BYTE));
      found.add(source.weight().orElseThrow());
      return false;
    });
    try (LlamaContext context = of.context(OPTIONS, products)) {
      assertFalse(decode(context, TOKENS));
    }
    return found.getFirst();
  }

  @Test
  void aWeightIsReplacedAndRestored() throws IOException {
    List<byte[]> content = new ArrayList<>();
    WeightTensor weight = weight(model, QUERY, content);
    assertEquals(QUERY, weight.name());
    assertEquals(F32, weight.type());
    assertEquals(List.of(32L, 32L, 1L, 1L), IntStream.range(0, 4).mapToObj(weight::ne).toList());
    assertEquals(4096, weight.bytes());
    float[] expected = unobserved();
    try (LlamaContext context = model.context(OPTIONS); Arena arena = Arena.ofConfined()) {
      MemorySegment original = arena.allocateFrom(JAVA_BYTE, content.getFirst());
      MemorySegment zero = arena.allocate(128);
      weight.write(5 * 128, zero);
      float[] changed = logits(context);
      assertFalse(Arrays.equals(expected, changed));
      weight.write(5 * 128, original.asSlice(5 * 128, 128));
      assertArrayEquals(expected, logits(context));
      weight.write(arena.allocate(4096));
      assertFalse(Arrays.equals(changed, logits(context)));
      weight.write(original);
      assertArrayEquals(expected, logits(context));
      assertThrows(IndexOutOfBoundsException.class, () -> weight.write(4096 - 127, zero));
      assertThrows(IndexOutOfBoundsException.class, () -> weight.write(-1, zero));
      assertThrows(IllegalArgumentException.class, () -> weight.write(zero));
    }
  }

  @Test
  void aMappedWeightIsNotWritten() throws IOException {
    WeightTensor weight = weight(mapped, QUERY, new ArrayList<>());
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment zero = arena.allocate(4096);
      Exception e = assertThrows(IllegalStateException.class, () -> weight.write(zero));
      assertTrue(e.getMessage().contains(QUERY) && e.getMessage().contains("mmap"), e.getMessage());
    }
  }

  @Test
  void aClosedModelsWeightIsNotWritten() throws IOException {
    WeightTensor weight;
    try (LlamaModel other = LlamaModel.open(MODEL, new LlamaModel.Options(OptionalInt.empty(), false, false, null))) {
      weight = weight(other, QUERY, new ArrayList<>());
    }
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment zero = arena.allocate(4096);
      assertThrows(IllegalStateException.class, () -> weight.write(zero));
    }
    assertEquals(QUERY, weight.name());
  }

  /** llama.cpp keeps some types in another order of bytes where the processor likes that better, but not what can be replaced. */
  @Test
  void unmappedWeightsAreThoseOfTheFile(@TempDir Path temp) throws IOException {
    Path file = temp.resolve("q4_0.gguf");
    NativeQuantize.run(MODEL, file, NativeQuantize.Options.of(2, 1).asPure());
    Map<String, Integer> types = new HashMap<>();
    Map<String, byte[]> unmapped = content(file, false, types);
    assertEquals(15, unmapped.size());
    assertEquals(2, types.get(QUERY));
    Map<String, byte[]> original = content(MODEL, false, new HashMap<>());
    float[] expected = floats(original.get(QUERY));
    byte[] blocks = Ggml.load().quantize(2, expected, WIDTH, WIDTH, null, 18 * WIDTH);
    assertArrayEquals(blocks, unmapped.get(QUERY));
    content(file, true, new HashMap<>()).forEach((name, bytes) -> {
      if (bytes.length > 0) {
        assertArrayEquals(unmapped.get(name), bytes, name);
      }
    });
  }

  private static float[] floats(byte[] bytes) {
    return MemorySegment.ofArray(bytes).toArray(JAVA_FLOAT_UNALIGNED);
  }

  /** The bytes of the weights that can be read, and none of the others. */
  private static Map<String, byte[]> content(Path file, boolean mmap, Map<String, Integer> types) throws IOException {
    Map<String, byte[]> content = new HashMap<>();
    Products products = new Products(
      _ -> true,
      node -> {
        Node weight = node.source(0).orElseThrow();
        types.put(weight.name(), weight.type());
        try (Arena arena = Arena.ofConfined()) {
          MemorySegment copy = arena.allocate(weight.bytes());
          if (weight.isHost() || !mmap) {
            weight.read(copy);
            assertEquals(-1, copy.mismatch(weight.data()));
            content.put(weight.name(), copy.toArray(JAVA_BYTE));
          } else {
            assertThrows(IllegalStateException.class, () -> weight.read(copy));
            assertThrows(IllegalStateException.class, weight::data);
            content.put(weight.name(), new byte[0]);
          }
        }
        return true;
      }
    );
    try (
      LlamaModel read = LlamaModel.open(file, new LlamaModel.Options(OptionalInt.of(0), false, mmap, null));
      LlamaContext context = read.context(OPTIONS, products)
    ) {
      decode(context, TOKENS);
    }
    return content;
  }

  /**
   * Several devices share a graph in parts. There is one device here, so the scheduler is played: it asks for each node of a part,
   * computes those that are wanted, and goes on with the next part where it is told to stop.
   */
  @Test
  void aStopHoldsForAllPartsOfAGraph() throws IOException {
    List<String> asked = new ArrayList<>();
    NodeObserver observer = new NodeObserver() {
      @Override
      public boolean wants(Node node) {
        asked.add(node.name());
        return node.name().startsWith("wanted");
      }

      @Override
      public boolean computed(Node node) {
        asked.add("!");
        return false;
      }
    };
    List<List<String>> graph = List.of(
      List.of("embedding", "a", "wanted 1", "b"),
      List.of("c", "wanted 2"),
      List.of("d", "e", "wanted 3")
    );
    int computed = 0;
    try (
      Evaluation evaluation = new Evaluation(mapped, LlamaLibrary.load().tensors(), observer);
      Arena arena = Arena.ofConfined()
    ) {
      MethodHandle callback = Linker.nativeLinker().downcallHandle(
        evaluation.callback(),
        FunctionDescriptor.of(JAVA_BOOLEAN, ADDRESS, JAVA_BOOLEAN, ADDRESS)
      );
      evaluation.begin();
      for (int microBatch = 0; microBatch < 2; microBatch++) {
        for (List<String> part : graph) {
          boolean goOn = true;
          for (int i = 0; i < part.size() && goOn; i++) {
            MemorySegment tensor = arena.allocate(GgmlTensors.LAYOUT);
            tensor.setString(256, part.get(i));
            computed++;
            goOn = !call(callback, tensor, true) || call(callback, tensor, false);
          }
        }
      }
      assertFalse(evaluation.end());
    }
    assertEquals(2 * (3 + 1 + 1), computed);
    assertEquals(List.of("embedding", "a", "wanted 1", "!", "embedding", "a", "wanted 1", "!"), asked);
  }

  private static boolean call(MethodHandle callback, MemorySegment tensor, boolean ask) {
    return Natives.call(() -> (boolean) callback.invokeExact(tensor, ask, MemorySegment.NULL));
  }
}
