// Package wild has scenes from public reports of other projects, as tests that
// are named after the report. Where it is small, the mechanism that failed is
// there too, in our own words: the test shows that the scene makes it fail, and
// then that condvar survives it.
package wild
