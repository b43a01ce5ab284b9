package dev.attar.lowrank.heads;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.MemoryModel;
import dev.attar.calibration.linear.MadeUpInputs;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.compute.Device;
import dev.attar.compute.DeviceChoice;
import dev.attar.compute.Devices;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Against plain loops. */
class ValueFitTest {

  private static final int HEADS = 6;
  private static final int GROUPS = 2;
  private static final int SIZE = HeadModel.SIZE;
  private static final int NEW_SIZE = 6;
  private static final int COLUMNS = HEADS * SIZE;
  private static final int EMBEDDING = HeadModel.EMBEDDING;

  @TempDir
  private Path folder;

  private static double[][] read(Path file, int columns) throws IOException {
    ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    double[][] rows = new double[bytes.remaining() / Float.BYTES / columns][columns];
    for (double[] row : rows) {
      for (int i = 0; i < columns; i++) {
        row[i] = bytes.getFloat();
      }
    }
    return rows;
  }

  private static double[][] rows(float[] values, int columns) {
    double[][] rows = new double[values.length / columns][columns];
    for (int i = 0; i < values.length; i++) {
      rows[i / columns][i % columns] = values[i];
    }
    return rows;
  }

  private static double[][] times(double[][] a, double[][] b) {
    double[][] product = new double[a.length][b[0].length];
    for (int i = 0; i < a.length; i++) {
      for (int k = 0; k < b.length; k++) {
        for (int j = 0; j < b[0].length; j++) {
          product[i][j] += a[i][k] * b[k][j];
        }
      }
    }
    return product;
  }

  private static double[][] transpose(double[][] a) {
    double[][] transposed = new double[a[0].length][a.length];
    for (int i = 0; i < a.length; i++) {
      for (int j = 0; j < a[0].length; j++) {
        transposed[j][i] = a[i][j];
      }
    }
    return transposed;
  }

  /** The X of {@code A X = B} by elimination. */
  private static double[][] solve(double[][] a, double[][] b) {
    int n = a.length;
    for (int i = 0; i < n; i++) {
      for (int row = 0; row < n; row++) {
        double factor = row == i ? 0 : a[row][i] / a[i][i];
        for (int j = 0; j < n; j++) {
          a[row][j] -= factor * a[i][j];
        }
        for (int j = 0; j < b[0].length; j++) {
          b[row][j] -= factor * b[i][j];
        }
      }
    }
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < b[0].length; j++) {
        b[i][j] /= a[i][i];
      }
    }
    return b;
  }

  private static double squares(double[][] a) {
    double sum = 0;
    for (double[] row : a) {
      for (double x : row) {
        sum += x * x;
      }
    }
    return sum;
  }

  private static double trace(double[][] rows, double[][] gram) {
    double[][] product = times(times(rows, gram), transpose(rows));
    double sum = 0;
    for (int i = 0; i < product.length; i++) {
      sum += product[i][i];
    }
    return sum;
  }

  private static double[][] minus(double[][] a, double[][] b) {
    double[][] difference = new double[a.length][a[0].length];
    for (int i = 0; i < a.length; i++) {
      for (int j = 0; j < a[0].length; j++) {
        difference[i][j] = a[i][j] - b[i][j];
      }
    }
    return difference;
  }

  /** The projections of all heads, (heads new size, heads size). */
  private static double[][] all(double[][][] ofGroups) {
    double[][] all = new double[HEADS * NEW_SIZE][COLUMNS];
    for (int head = 0; head < HEADS; head++) {
      for (int i = 0; i < NEW_SIZE; i++) {
        System.arraycopy(ofGroups[(head * GROUPS) / HEADS][i], 0, all[head * NEW_SIZE + i], head * SIZE, SIZE);
      }
    }
    return all;
  }

  /** The least error of a group's outputs alone with a projection, if the group's heads see what they see on average. */
  private static double loss(double[][] output, double[][] gram, double[][] projection, int group) {
    int heads = HEADS / GROUPS;
    double[][] mean = new double[SIZE][SIZE];
    for (int head = group * heads; head < (group + 1) * heads; head++) {
      for (int i = 0; i < SIZE; i++) {
        for (int j = 0; j < SIZE; j++) {
          mean[i][j] += gram[head * SIZE + i][head * SIZE + j] / heads;
        }
      }
    }
    double[][] crossed = times(projection, mean);
    double[][] inverse = solve(times(crossed, transpose(projection)), times(projection, mean));
    double[][] left = minus(mean, times(transpose(crossed), inverse));
    double sum = 0;
    for (int head = group * heads; head < (group + 1) * heads; head++) {
      double[][] part = new double[EMBEDDING][SIZE];
      for (int row = 0; row < EMBEDDING; row++) {
        System.arraycopy(output[row], head * SIZE, part[row], 0, SIZE);
      }
      sum += trace(part, left);
    }
    return sum;
  }

  @Test
  void valuesAreProjectedAndOutputsFitted() throws IOException {
    HeadModel model = HeadModel.llama(HEADS, GROUPS, true);
    HeadLayout.Layer layer = HeadLayout.of(model).layers().getFirst();
    float[] measured = MadeUpInputs.correlated(COLUMNS, 3);
    Path values = folder.resolve("values");
    Path bias = folder.resolve("bias");
    Path output = folder.resolve("output");
    HeadResult.LayerReport report;
    double ridge;
    try (Devices.Opened opened = Devices.open(DeviceChoice.CPU, 1)) {
      Device device = opened.device();
      PreparedGram.Use use = PreparedGram.Use.solving(0.05);
      try (PreparedGram input = MadeUpInputs.prepare(device, measured, COLUMNS, use)) {
        ridge = input.ridge();
        report = new ValueFit(device, input, layer, SIZE, NEW_SIZE).fit(values, bias, output);
      }
    }
    double[][] gram = rows(measured, COLUMNS);
    double[][] damped = rows(measured, COLUMNS);
    for (int i = 0; i < COLUMNS; i++) {
      damped[i][i] += ridge;
    }
    double[][] before = rows(MemoryModel.values(layer.output()), COLUMNS);
    double[][] oldValues = rows(MemoryModel.values(layer.values()), EMBEDDING);
    double[][] newValues = read(values, EMBEDDING);
    double[][] oldBias = rows(MemoryModel.values(layer.valueBias()), 1);
    double[][] newBias = read(bias, 1);
    double[][] after = read(output, HEADS * NEW_SIZE);
    double[][][] projections = new double[GROUPS][][];
    Random random = new Random(1);
    for (int group = 0; group < GROUPS; group++) {
      double[][] old = new double[SIZE][];
      System.arraycopy(oldValues, group * SIZE, old, 0, SIZE);
      double[][] changed = new double[NEW_SIZE][];
      System.arraycopy(newValues, group * NEW_SIZE, changed, 0, NEW_SIZE);
      // T from T V: its rows solve V V' t = V (T V)'.
      double[][] projection = transpose(solve(times(old, transpose(old)), times(old, transpose(changed))));
      projections[group] = projection;
      assertTrue(squares(minus(changed, times(projection, old))) < 1e-8 * squares(changed));
      for (int i = 0; i < NEW_SIZE; i++) {
        double expected = 0;
        for (int j = 0; j < SIZE; j++) {
          expected += projection[i][j] * oldBias[group * SIZE + j][0];
        }
        assertEquals(expected, newBias[group * NEW_SIZE + i][0], 1e-4);
      }
      // No projection near it loses less.
      double least = loss(before, damped, projection, group);
      for (int i = 0; i < 10; i++) {
        double[][] other = new double[NEW_SIZE][SIZE];
        for (int j = 0; j < NEW_SIZE * SIZE; j++) {
          double x = projection[j / SIZE][j % SIZE];
          other[j / SIZE][j % SIZE] = x + 0.1 * random.nextGaussian() * Math.sqrt(squares(projection) / 48);
        }
        assertTrue(loss(before, damped, other, group) > least * 1.0001);
      }
    }
    double[][] all = all(projections);
    double[][] expected = transpose(
      solve(times(times(all, damped), transpose(all)), times(times(all, damped), transpose(before)))
    );
    assertEquals(0, squares(minus(expected, after)) / squares(expected), 1e-7);
    double[][] change = minus(before, times(after, all));
    assertEquals(trace(before, gram), report.energy(), 1e-4 * report.energy());
    assertEquals(trace(change, gram), report.error(), 1e-3 * report.error());
    assertTrue(report.loss() > 1e-4 && report.loss() < 0.2, report.toString());
  }
}
