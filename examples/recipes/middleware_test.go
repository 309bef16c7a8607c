package recipes_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"example.com/condvar"
)

// limit lets next handle as many requests at a time as slots has permits. If
// too many already wait, or a request has waited too long, it answers 503.
func limit(slots *condvar.CapacityResource, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		slot, err := slots.AcquirePermit(req.Context(), 1)
		switch {
		case errors.Is(err, condvar.ErrOverloaded), errors.Is(err, condvar.ErrClosed):
			w.Header().Set("Retry-After", "1")
			http.Error(w, "try again later", http.StatusServiceUnavailable)
			return
		case err != nil: // the client has gone: no answer
			return
		}
		defer slot.Release() // even if next panics
		next.ServeHTTP(w, req)
	})
}

// A middleware that answers 503 with Retry-After when the server is overloaded.
// In a program, let some calls wait for a limited time: MaxWaiting(50),
// MaxWait(500*time.Millisecond).
func Example_middleware() {
	slots := condvar.NewCapacityResource(1, condvar.MaxWaiting(0))
	get := func(h http.Handler) *http.Response {
		recorder := httptest.NewRecorder()
		h.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
		return recorder.Result()
	}

	var handler http.Handler
	nested := true
	handler = limit(slots, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if nested { // a second request comes while the first is handled
			nested = false
			second := get(handler)
			fmt.Println("second:", second.StatusCode, "Retry-After", second.Header.Get("Retry-After"))
		}
		fmt.Fprint(w, "hello")
	}))
	fmt.Println("first:", get(handler).StatusCode)
	fmt.Println("third:", get(handler).StatusCode)
	fmt.Println(slots, "rejected:", slots.Stats().Rejected)
	// Output:
	// second: 503 Retry-After 1
	// first: 200
	// third: 200
	// 0/1 in use, 0 waiting rejected: 1
}
