package dev.attar.calibration;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.compute.Scope;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class TiledGramTest {

  @ParameterizedTest
  @ValueSource(ints = { 1, 5, 511, 512, 513, 1100 })
  void itsTilesMakeUpTheUpperTriangle(int columns) throws IOException {
    Random random = new Random(columns);
    List<float[]> rows = new ArrayList<>();
    for (int i = 0; i < 40; i++) {
      float[] row = new float[columns];
      for (int j = 0; j < columns; j++) {
        row[j] = random.nextInt(-8, 9); // so that sums are exact
      }
      rows.add(row);
    }
    List<Float> found = new ArrayList<>();
    try (Device device = Devices.cpu(2); Scope scope = device.scope()) {
      TiledGram gram = new TiledGram(device, scope, columns);
      RowBatch batch = new RowBatch(device, scope, columns);
      gram.add(batch); // nothing
      for (int i = 0; i < rows.size(); i++) {
        batch.append(rows.get(i));
        if (i == 24) {
          gram.add(batch);
          batch.clear();
        }
      }
      gram.add(batch);
      gram.forEachPart(0.5f, values -> {
        for (float value : values.toArray(JAVA_FLOAT)) {
          found.add(value);
        }
      });
    }
    assertEquals(Gram.packedLength(columns), found.size());
    for (int i = 0; i < columns; i += 1 + columns / 50) {
      for (int j = i; j < columns; j++) {
        float sum = 0;
        for (float[] row : rows) {
          sum += row[i] * row[j];
        }
        assertEquals(sum / 2, found.get((int) Gram.packedStart(columns, i) + j - i), "element " + i + ", " + j);
      }
    }
  }
}
