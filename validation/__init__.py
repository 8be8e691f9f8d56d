"""Simulations behind docs/validity.md (`make validate`) and the published page (`make published`); not part of the
package."""
