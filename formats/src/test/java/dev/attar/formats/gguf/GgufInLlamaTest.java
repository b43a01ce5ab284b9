package dev.attar.formats.gguf;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.FormatException;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorInfo;
import dev.attar.llama.LlamaLibrary;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Files of the writer, read by ggml's own reader and written again by its own writer. */
class GgufInLlamaTest {

  private static final StructLayout INIT_PARAMS = MemoryLayout.structLayout(
    JAVA_BOOLEAN.withName("no_alloc"),
    MemoryLayout.paddingLayout(7),
    ADDRESS.withName("ctx")
  );

  private static SymbolLookup symbols;

  @TempDir
  private Path folder;

  @BeforeAll
  static void load() throws Throwable {
    symbols = SymbolLookup.libraryLookup(
      LlamaLibrary.load().folder().orElseThrow().resolve(System.mapLibraryName("ggml-base")),
      Arena.global()
    );
    MethodHandle silence = MethodHandles.empty(
      MethodType.methodType(void.class, int.class, MemorySegment.class, MemorySegment.class)
    );
    MemorySegment log = Linker.nativeLinker().upcallStub(
      silence,
      FunctionDescriptor.ofVoid(JAVA_INT, ADDRESS, ADDRESS),
      Arena.global()
    );
    function("ggml_log_set", FunctionDescriptor.ofVoid(ADDRESS, ADDRESS)).invokeExact(log, MemorySegment.NULL);
  }

  private static MethodHandle function(String name, FunctionDescriptor descriptor) {
    return Linker.nativeLinker().downcallHandle(symbols.findOrThrow(name), descriptor);
  }

  private static MemorySegment open(Path file, Arena arena) throws Throwable {
    MethodHandle init = function("gguf_init_from_file", FunctionDescriptor.of(ADDRESS, ADDRESS, INIT_PARAMS));
    MemorySegment params = arena.allocate(INIT_PARAMS);
    params.set(JAVA_BOOLEAN, 0, true);
    return (MemorySegment) init.invokeExact(arena.allocateFrom(file.toString()), params);
  }

  private static long number(String name, MemorySegment context) throws Throwable {
    return (long) function(name, FunctionDescriptor.of(JAVA_LONG, ADDRESS)).invokeExact(context);
  }

  private static long number(String name, MemorySegment context, long index) throws Throwable {
    return (long) function(name, FunctionDescriptor.of(JAVA_LONG, ADDRESS, JAVA_LONG)).invokeExact(context, index);
  }

  private static void free(MemorySegment context) throws Throwable {
    function("gguf_free", FunctionDescriptor.ofVoid(ADDRESS)).invokeExact(context);
  }

  @ParameterizedTest
  @ValueSource(ints = { 21, 22, 23, 24 })
  void everyTypeOpensAndTheHeaderIsGgmlsOwn(int seed) throws Throwable {
    Random random = new Random(seed);
    Metadata metadata = RandomModels.metadata(random, false);
    if (seed % 2 == 0) {
      metadata = metadata.with("general.alignment", MetadataValue.uint32(64));
    }
    List<TensorInfo> tensors = RandomModels.tensors(random);
    Path file = folder.resolve("ours.gguf");
    GgufWriterTest.write(file, metadata, tensors, RandomModels.contents(random, tensors));
    GgufLayout layout = GgufLayout.of(metadata, tensors);
    Path again = folder.resolve("theirs.gguf");
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment context = open(file, arena);
      assertNotEquals(MemorySegment.NULL, context);
      assertEquals(metadata.values().size(), number("gguf_get_n_kv", context));
      assertEquals(tensors.size(), number("gguf_get_n_tensors", context));
      assertEquals(layout.headerBytes(), number("gguf_get_data_offset", context));
      MethodHandle type = function("gguf_get_tensor_type", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG));
      for (int i = 0; i < tensors.size(); i++) {
        assertEquals(tensors.get(i).type().id(), (int) type.invokeExact(context, (long) i));
        assertEquals(tensors.get(i).bytes(), number("gguf_get_tensor_size", context, i));
        assertEquals(
          layout.tensorPosition(i) - layout.headerBytes(),
          number("gguf_get_tensor_offset", context, i),
          tensors.get(i).toString()
        );
      }
      MethodHandle write = function(
        "gguf_write_to_file",
        FunctionDescriptor.of(JAVA_BOOLEAN, ADDRESS, ADDRESS, JAVA_BOOLEAN)
      );
      assertTrue((boolean) write.invokeExact(context, arena.allocateFrom(again.toString()), true));
      free(context);
    }
    byte[] ours = Files.readAllBytes(file);
    assertArrayEquals(Files.readAllBytes(again), Arrays.copyOf(ours, (int) layout.headerBytes()));
  }

  /** Files with one bit of the header changed. */
  @Test
  void damagedFilesThatWeOpenGgmlOpensToo() throws Throwable {
    byte[] sample = Files.readAllBytes(Path.of("../samples/sample/imatrix.gguf"));
    Random random = new Random(5);
    Path file = folder.resolve("damaged.gguf");
    int refused = 0;
    for (int i = 0; i < 300; i++) {
      byte[] damaged = sample.clone();
      int at = random.nextInt(3500);
      damaged[at] ^= (byte) (1 << random.nextInt(8));
      Files.write(file, damaged);
      boolean theirs;
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment context = open(file, arena);
        theirs = !context.equals(MemorySegment.NULL);
        if (theirs) {
          free(context);
        }
      }
      try (GgufModel model = GgufModel.open(file)) {
        assertTrue(theirs, "byte " + at + " of " + model.parts());
      } catch (FormatException _) {
        refused++;
      }
    }
    assertTrue(refused > 50, "refused " + refused);
  }
}
