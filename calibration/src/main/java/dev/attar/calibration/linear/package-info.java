/**
 * What methods that work on one linear layer after the other share: the layer's weights in bands on a device, and the Gram matrix of what
 * enters it, ready for use.
 */
package dev.attar.calibration.linear;
