package dev.attar.cli;

import java.nio.file.Path;

/**
 * An adapter as the user named it, and how strong it is to be.
 *
 * @param path a file or folder
 * @param scale what its products are multiplied by; finite
 */
record ScaledAdapter(Path path, float scale) {}
