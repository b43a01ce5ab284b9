package dev.attar.cli;

import dev.attar.bench.Machine;
import dev.attar.compute.CudaReport;
import dev.attar.compute.CudaReport.Gpu;
import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

/** Shows what can compute. */
@Command(
  name = "devices",
  description = "Show what can compute on this machine, and why something cannot.",
  footer = {
    "",
    "--device of quantize and bench chooses: cpu, cuda (the first GPU), or auto, cuda if it is available.",
    "The environment variable CUDA_VISIBLE_DEVICES decides which GPU is the first.",
    "ATTAR_CUDA_LIB names a folder with CUDA 12's libraries, if they are not where the system looks.%n"
  }
)
final class DevicesCommand implements Callable<Integer> {

  private final Console console;

  @Mixin
  private MessageOptions messages;

  DevicesCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    String cpu;
    try (Device device = Devices.cpu(Machine.computeThreads())) {
      cpu = device.name();
    }
    CudaReport cuda = Devices.cuda();
    List<OptionalLong> free = new ArrayList<>();
    for (int i = 0; i < cuda.gpus().size(); i++) {
      free.add(freeMemory(i));
    }
    if (messages.json()) {
      Json.print(console.out(), json(cpu, cuda, free));
    } else {
      print(cpu, cuda, free);
    }
    return Main.SUCCESS;
  }

  /** What cannot be found out, as of a GPU that another process has for itself, stays unknown. */
  private static OptionalLong freeMemory(int gpu) {
    try {
      return OptionalLong.of(Devices.freeGpuMemory(gpu));
    } catch (IOException _) {
      return OptionalLong.empty();
    }
  }

  private void print(String cpu, CudaReport cuda, List<OptionalLong> free) {
    Table table = new Table(Table.Align.LEFT, Table.Align.LEFT);
    table.row("cpu", Text.escape(Machine.processor()));
    OptionalLong available = known(Machine.availableMemoryBytes());
    table.row("", memory(Machine.memoryBytes(), available, "available"));
    table.row("", Text.escape(cpu));
    for (int i = 0; i < cuda.gpus().size(); i++) {
      Gpu gpu = cuda.gpus().get(i);
      table.row("gpu " + i, Text.escape(gpu.name()) + ", compute capability " + gpu.computeCapability());
      table.row("", memory(gpu.memoryBytes(), free.get(i), "free"));
    }
    if (cuda.problem().isPresent()) {
      table.row("cuda", "not available: " + Text.escape(cuda.problem().get()));
    } else {
      table.row("cuda", "available, on gpu 0");
    }
    cuda.version().ifPresent(version -> table.row("", "driver for CUDA " + version));
    cuda.libraries().ifPresent(folder -> table.row("", "libraries in " + Text.escape(folder.toString())));
    table.print(console.out());
  }

  private static OptionalLong known(long bytes) {
    return bytes > 0 ? OptionalLong.of(bytes) : OptionalLong.empty();
  }

  private static String memory(long bytes, OptionalLong left, String word) {
    String all = bytes > 0 ? Text.size(bytes) + " of memory" : "memory of unknown size";
    return left.isPresent() ? all + ", " + Text.size(left.getAsLong()) + " " + word : all;
  }

  private static Map<String, Object> json(String cpu, CudaReport cuda, List<OptionalLong> free) {
    Map<String, Object> result = new LinkedHashMap<>();
    Map<String, Object> processor = new LinkedHashMap<>();
    processor.put("name", Machine.processor());
    processor.put("device", cpu);
    putMemory(processor, "memory_bytes", known(Machine.memoryBytes()));
    putMemory(processor, "available_bytes", known(Machine.availableMemoryBytes()));
    result.put("cpu", processor);
    List<Object> gpus = new ArrayList<>();
    for (int i = 0; i < cuda.gpus().size(); i++) {
      Gpu gpu = cuda.gpus().get(i);
      Map<String, Object> entry = new LinkedHashMap<>();
      entry.put("name", gpu.name());
      entry.put("compute_capability", gpu.computeCapability());
      entry.put("memory_bytes", gpu.memoryBytes());
      putMemory(entry, "free_bytes", free.get(i));
      gpus.add(entry);
    }
    result.put("gpus", gpus);
    Map<String, Object> entry = new LinkedHashMap<>();
    entry.put("available", cuda.problem().isEmpty());
    cuda.problem().ifPresent(problem -> entry.put("problem", problem));
    cuda.version().ifPresent(version -> entry.put("driver_version", version));
    cuda
      .libraries()
      .map(Path::toString)
      .ifPresent(folder -> entry.put("libraries", folder));
    result.put("cuda", entry);
    result.put("auto", cuda.problem().isEmpty() ? "cuda" : "cpu");
    return result;
  }

  private static void putMemory(Map<String, Object> entry, String key, OptionalLong bytes) {
    bytes.ifPresent(number -> entry.put(key, number));
  }
}
