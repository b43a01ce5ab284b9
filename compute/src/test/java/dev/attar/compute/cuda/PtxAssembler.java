package dev.attar.compute.cuda;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import jcuda.nvptxcompiler.JNvPTXCompiler;
import jcuda.nvptxcompiler.nvPTXCompileResult;
import jcuda.nvptxcompiler.nvPTXCompilerHandle;

/** NVIDIA's compiler of PTX, which JCuda carries: it needs neither a GPU nor a driver. */
final class PtxAssembler {

  private static final Pattern ENTRY = Pattern.compile("Compiling entry function '(\\w+)' for '(\\w+)'");
  private static final Pattern SPILLS = Pattern.compile("(\\d+) bytes spill stores, (\\d+) bytes spill loads");
  private static final Pattern REGISTERS = Pattern.compile("Used (\\d+) registers");
  private static final Pattern SHARED = Pattern.compile("(\\d+) bytes smem");

  private PtxAssembler() {}

  /**
   * What a kernel takes.
   *
   * @param registers of a thread
   * @param spilled the most bytes that one of its functions stores or loads since registers do not suffice
   * @param shared bytes of a block
   */
  record Use(int registers, int spilled, int shared) {}

  static void load() throws IOException {
    JCudaLibraries.load(() -> JNvPTXCompiler.setExceptionsEnabled(false));
  }

  /** Assembles a file for a GPU such as {@code sm_90}, and tells what each kernel takes, by name. */
  static Map<String, Use> assemble(String name, String ptx, String gpu) {
    byte[] text = ptx.getBytes(UTF_8);
    nvPTXCompilerHandle compiler = new nvPTXCompilerHandle();
    byte[] terminated = Arrays.copyOf(text, text.length + 1);
    assertEquals(0, JNvPTXCompiler.nvPTXCompilerCreate(compiler, text.length, terminated), name);
    try {
      String[] options = { "--gpu-name=" + gpu, "--verbose" };
      int status = JNvPTXCompiler.nvPTXCompilerCompile(compiler, options.length, options);
      long[] size = new long[1];
      JNvPTXCompiler.nvPTXCompilerGetErrorLogSize(compiler, size);
      byte[] errors = new byte[Math.toIntExact(size[0]) + 1];
      JNvPTXCompiler.nvPTXCompilerGetErrorLog(compiler, errors);
      assertEquals(
        nvPTXCompileResult.NVPTXCOMPILE_SUCCESS,
        status,
        () -> name + " for " + gpu + ": " + new String(errors, UTF_8).trim()
      );
      JNvPTXCompiler.nvPTXCompilerGetInfoLogSize(compiler, size);
      byte[] log = new byte[Math.toIntExact(size[0]) + 1];
      JNvPTXCompiler.nvPTXCompilerGetInfoLog(compiler, log);
      return uses(new String(log, UTF_8), gpu);
    } finally {
      JNvPTXCompiler.nvPTXCompilerDestroy(compiler);
    }
  }

  /** Reads a log: a kernel's name, the spills of it and of functions that it calls, then its registers and shared memory. */
  private static Map<String, Use> uses(String log, String gpu) {
    Map<String, Use> uses = new LinkedHashMap<>();
    String kernel = null;
    int spilled = 0;
    for (String line : log.split("\n", -1)) {
      Matcher entry = ENTRY.matcher(line);
      Matcher spills = SPILLS.matcher(line);
      Matcher registers = REGISTERS.matcher(line);
      if (entry.find()) {
        kernel = entry.group(1);
        spilled = 0;
        assertEquals(gpu, entry.group(2), line);
      } else if (spills.find()) {
        spilled = Math.max(spilled, Math.max(Integer.parseInt(spills.group(1)), Integer.parseInt(spills.group(2))));
      } else if (registers.find()) {
        assertTrue(kernel != null && !uses.containsKey(kernel), line);
        Matcher shared = SHARED.matcher(line);
        int bytes = shared.find() ? Integer.parseInt(shared.group(1)) : 0;
        uses.put(kernel, new Use(Integer.parseInt(registers.group(1)), spilled, bytes));
      }
    }
    return uses;
  }
}
