package dev.attar.quant.gptq;

import java.io.IOException;
import java.nio.file.Path;

/** Hears how a run goes, on the thread that started it. */
public interface GptqListener {
  /**
   * A phase goes on.
   *
   * @param phase what is done, {@code measuring importance}
   * @param done units done so far
   * @param total units to do in all
   * @param unit what is counted, plural
   */
  void at(String phase, long done, long total, String unit);

  /** What computes; one line, {@code device: cuda (NVIDIA H100 80GB HBM3)}. Comes before anything is measured. */
  void device(String line);

  /** The user should know this; one line. */
  void warn(String message);

  /** A tensor is done. */
  void quantized(TensorReport report);

  /**
   * The output is complete, and does not have its name yet.
   *
   * @param file its temporary name
   * @throws IOException if it is not to get its name: as {@link dev.attar.formats.OutputCheck}
   */
  default void written(Path file) throws IOException, InterruptedException {}
}
