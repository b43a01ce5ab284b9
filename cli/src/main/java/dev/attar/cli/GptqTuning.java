package dev.attar.cli;

import dev.attar.bench.Machine;
import dev.attar.compute.DeviceChoice;
import dev.attar.compute.Devices;
import dev.attar.quant.gptq.Effort;
import dev.attar.quant.gptq.GptqOptions;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** Options for how GPTQ works. */
final class GptqTuning {

  /** What is assumed to be free where the system does not say. */
  private static final long UNKNOWN_MEMORY = 4L << 30;

  @Spec(Target.MIXEE)
  private CommandSpec command;

  @Option(
    names = "--effort",
    paramLabel = "N",
    description = "How much work GPTQ spends on a matrix, 0 to 3 (default: " +
      Effort.DEFAULT +
      "): 0 walks the columns once with the scales of rounding, 1 chooses scales nearby on the way and refines codes " +
      "and scales, 2 looks further and refines more, 3 still more."
  )
  private Integer effort;

  @Option(
    names = "--damping",
    paramLabel = "X",
    converter = Converters.Decimal.class,
    description = "What is added to the diagonal of a layer's Gram matrix, as a part of its mean (default: " +
      GptqOptions.DEFAULT_DAMPING +
      ")."
  )
  private Double damping;

  @Option(
    names = "--sequential",
    negatable = true,
    description = "Measure each layer with the layers before it already quantized, which takes a run of the model for " +
      "each input of each layer (default: if the model is small enough)."
  )
  private Boolean sequential;

  @Option(
    names = "--max-memory",
    paramLabel = "SIZE",
    converter = Converters.Size.class,
    description = "How much memory the statistics of layers may use beyond the model's file, 1500M or 3G " +
      "(powers of 1024; default: three quarters of what is free). About 900 MiB of it are a fixed part; the less is left, " +
      "the more often the model reads the texts."
  )
  private ByteSize maxMemory;

  @Option(
    names = "--device",
    paramLabel = "DEVICE",
    description = "What does the algebra with the statistics of layers: cpu, cuda (an NVIDIA GPU), or auto (the default), " +
      "cuda if 'attar devices' says that it is available."
  )
  private DeviceChoice device = DeviceChoice.AUTO;

  /**
   * Checks, before any work, that there is the device that is asked for.
   *
   * @throws IOException if not; the message is one line
   */
  void requireDevice() throws IOException {
    Devices.require(device);
  }

  /**
   * What the user should know where neither GPTQ nor a choice of types is asked for, one line; empty for nothing.
   *
   * @param why why the device is of no use there
   */
  Optional<String> unusedDevice(String why) {
    return device == DeviceChoice.CUDA ? Optional.of(why + ", --device cuda changes nothing") : Optional.empty();
  }

  /** The options that the user gave, by name; but for the device, which may always be named. */
  List<String> given() {
    List<String> given = new ArrayList<>(givenForGptq());
    given.addAll(givenForMeasuring());
    return given;
  }

  /** Those of {@link #given} that are of use where layers are only measured, too. */
  List<String> givenForMeasuring() {
    return maxMemory == null ? List.of() : List.of("--max-memory");
  }

  /** Those of {@link #given} that are about GPTQ itself, and of no use where layers are only measured. */
  List<String> givenForGptq() {
    List<String> given = new ArrayList<>();
    if (effort != null) {
      given.add("--effort");
    }
    if (damping != null) {
      given.add("--damping");
    }
    if (sequential != null) {
      given.add(sequential ? "--sequential" : "--no-sequential");
    }
    return given;
  }

  /**
   * How GPTQ is to work.
   *
   * @param roundOnly whether tensors are only rounded, to types that are chosen for a size
   * @param resume whether to go on with what an interrupted run has left
   * @param overwrite whether to replace an output and what an interrupted run has left
   * @throws ParameterException if a value is out of range
   */
  GptqOptions options(Calibration calibration, boolean roundOnly, boolean resume, boolean overwrite) {
    return new GptqOptions(
      calibration.texts(),
      calibration.tokens(),
      calibration.context(),
      roundOnly,
      Effort.of(Usage.range(command, "--effort", effort, Effort.DEFAULT, 0, Effort.MOST)),
      damping(),
      Optional.ofNullable(sequential),
      maxMemory(),
      calibration.threads(),
      device,
      resume,
      overwrite,
      calibration.patience()
    );
  }

  /**
   * What is added to the diagonal of a Gram matrix, as a part of its mean.
   *
   * @throws ParameterException if it is out of range
   */
  double damping() {
    double added = damping == null ? GptqOptions.DEFAULT_DAMPING : damping;
    if (!(added > 0 && added <= 1)) {
      throw Usage.error(command, "invalid value for option '--damping': " + added + ", expected above 0 and at most 1");
    }
    return added;
  }

  /**
   * How many bytes may be used beyond mapped files.
   *
   * @throws ParameterException if there is not even one
   */
  long maxMemory() {
    if (maxMemory != null) {
      return Usage.bytes(command, "--max-memory", maxMemory);
    }
    long free = Machine.availableMemoryBytes();
    return ((free > 0 ? free : UNKNOWN_MEMORY) / 4) * 3;
  }

  /** What does the algebra. */
  DeviceChoice device() {
    return device;
  }
}
