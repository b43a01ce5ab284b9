package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Consumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** llama.cpp's own choice of types: {@code llama_model_quantize} with {@code dry_run}, whose log names each tensor's type. */
public final class DryRun {

  /** One line per tensor; the last group is there if the type changes. */
  private static final Pattern LINE = Pattern.compile(
    "\\[ *\\d+/ *\\d+\\] (\\S+) +- \\[[^]]*\\], type = +(\\S+), size =[^\\n]*?MiB(?: -> [^\\n]*?\\((\\w+)\\))?\\n"
  );

  /** What a run wants beside the file type. */
  public interface Wishes extends Consumer<Params> {}

  /** The options that can be set. */
  public static final class Params {

    private final ParamsType.Params params;
    private final Arena arena;

    private Params(ParamsType.Params params, Arena arena) {
      this.params = params;
      this.arena = arena;
    }

    /** Sets a field of {@code llama_model_quantize_params}. */
    public Params set(String field, Object value) {
      params.set(field, value);
      return this;
    }

    /** Gives an importance matrix, whose only entry is for no tensor: a dry run does not look. */
    public Params importance() {
      MemorySegment array = arena.allocate(48, 8);
      array.set(ADDRESS, 0, arena.allocateFrom("none"));
      array.set(ADDRESS, 8, arena.allocateFrom(JAVA_FLOAT, 1f));
      array.set(JAVA_LONG, 16, 1);
      return set("imatrix", array);
    }

    /** Gives types by regular expressions. */
    public Params tensorTypes(Map<String, Integer> types) {
      MemorySegment array = arena.allocate(16L * (types.size() + 1), 8);
      long at = 0;
      for (Map.Entry<String, Integer> type : types.entrySet()) {
        array.set(ADDRESS, at, arena.allocateFrom(type.getKey()));
        array.set(JAVA_INT, at + 8, type.getValue());
        at += 16;
      }
      return set("tt_overrides", array);
    }
  }

  /**
   * What llama.cpp would do.
   *
   * @param failed whether it refuses
   * @param requiresImportance whether it says that the real run will need an importance matrix
   * @param types the type of each tensor by name, in order, in small letters
   * @param log all that it said
   */
  public record Result(boolean failed, boolean requiresImportance, Map<String, String> types, String log) {}

  private final LlamaLibrary library;
  private final MethodHandle quantize;
  private final StringBuilder log = new StringBuilder();

  /** Loads the library and listens to its log. */
  public DryRun() throws IOException {
    library = LlamaLibrary.load();
    quantize = library.function("llama_model_quantize", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS));
    library.nativeLog().listener(log::append);
  }

  /** Asks for one file. */
  public Result run(Path in, int fileType, Wishes wishes) {
    log.setLength(0);
    try (Arena arena = Arena.ofConfined()) {
      ParamsType.Params params = ParamsType.QUANTIZE.defaults(library, arena)
        .set("nthread", 1)
        .set("ftype", fileType)
        .set("dry_run", true);
      wishes.accept(new Params(params, arena));
      MemorySegment input = arena.allocateFrom(in.toString());
      MemorySegment output = arena.allocateFrom("none.gguf");
      int result = Natives.call(() -> (int) quantize.invokeExact(input, output, params.struct()));
      Map<String, String> types = new LinkedHashMap<>();
      Matcher matcher = LINE.matcher(log);
      while (matcher.find()) {
        types.put(matcher.group(1), matcher.group(3) == null ? matcher.group(2) : matcher.group(3));
      }
      return new Result(result != 0, log.indexOf("will require an imatrix") >= 0, types, log.toString());
    }
  }
}
