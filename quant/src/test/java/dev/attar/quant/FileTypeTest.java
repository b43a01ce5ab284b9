package dev.attar.quant;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class FileTypeTest {

  @ParameterizedTest
  @CsvSource(
    {
      "q4_k_m, Q4_K_M",
      "Q4_K, Q4_K_M",
      "q5_k, Q5_K_M",
      "Q3_K, Q3_K_M",
      "int8, Q8_0",
      "INT8, Q8_0",
      "mxfp4_moe, MXFP4_MOE",
      "copy, COPY",
      "bf16, BF16"
    }
  )
  void isFoundByNameInAnyCase(String name, FileType expected) {
    assertEquals(expected, FileType.byName(name).orElseThrow());
  }

  @Test
  void isNotFoundByOtherNames() {
    for (String name : List.of("", "Q4", "Q4_K_L", "15", "Q8_1", "Q4_K_M ")) {
      assertTrue(FileType.byName(name).isEmpty(), name);
    }
  }

  @Test
  void listsItsAliases() {
    assertEquals(List.of("Q4_K"), FileType.Q4_K_M.aliases());
    assertEquals(List.of("INT8"), FileType.Q8_0.aliases());
    assertEquals(List.of(), FileType.Q6_K.aliases());
  }

  @Test
  void numbersAreUnique() {
    Set<Integer> ids = new HashSet<>();
    Arrays.stream(FileType.values())
      .filter(t -> t != FileType.COPY)
      .forEach(t -> assertTrue(ids.add(t.id()), t.name()));
    assertEquals(35, ids.size());
  }

  /** On a usual dense model, what {@link FileType#importanceRequired} says is what the plan says. */
  @ParameterizedTest
  @EnumSource(FileType.class)
  void saysWhetherImportanceIsRequired(FileType type) {
    HeaderModel model = MixtureTest.Shape.LLAMA_TIED.model();
    QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(type));
    boolean required = plan
      .problems()
      .stream()
      .anyMatch(p -> p.contains("requires an importance matrix"));
    assertEquals(type.importanceRequired(), required);
    assertFalse(type.description().isBlank());
  }
}
