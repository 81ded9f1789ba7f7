package policy

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

func TestThresholdsAreSpelledAsTheyWereRead(t *testing.T) {
	for _, text := range []string{"50%", "12.5%", "0.125%", "0%", "100.0%", "5x", "2.5x", "0.05x", "1000000000x"} {
		got, ok, err := ParseThreshold(text)
		if !ok || err != nil || got.String() != text {
			t.Errorf("%s: %s, %v, %v", text, got, ok, err)
		}
	}
	for _, text := range []string{"%", "x", "-1%", "+1%", "1.%", ".5%", "1.2345x", "1e3%", "1,5%", "5 %", "1_0%", "1000000000.1%", "99999999999999999999x"} {
		if got, ok, err := ParseThreshold(text); !ok || err == nil {
			t.Errorf("%s is understood as %s", text, got)
		}
	}
	for _, text := range []string{"", "50", "5.5", "5%x", "50%%", "xx"} {
		if got, ok, _ := ParseThreshold(text); ok {
			t.Errorf("%q is understood as %s", text, got)
		}
	}
}

func TestThresholdsInJSON(t *testing.T) {
	got, err := json.Marshal([]Threshold{{N: -200}, {N: 125, Decimals: 1, Unit: Percent}, {N: 5, Unit: Times}})
	if want := `[-200,"12.5%","5x"]`; err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

func TestProductsAreComparedExactly(t *testing.T) {
	numbers := []int64{0, 1, -1, 2, 3, 100, math.MaxInt64, math.MaxInt64 - 1, -math.MaxInt64, math.MinInt64, 1 << 32}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		numbers = append(numbers, random.Int64()>>random.IntN(63), -random.Int64()>>random.IntN(63))
	}
	product := func(a, b int64) *big.Int { return new(big.Int).Mul(big.NewInt(a), big.NewInt(b)) }
	for range 20_000 {
		pick := func() int64 { return numbers[random.IntN(len(numbers))] }
		a, b, c, d := pick(), pick(), pick(), pick()
		if got, want := compareProducts(a, b, c, d), product(a, b).Cmp(product(c, d)); got != want {
			t.Fatalf("%d × %d against %d × %d is %d, want %d", a, b, c, d, got, want)
		}
	}
}

func TestPercentOfTheThreshold(t *testing.T) {
	threshold := func(text string) Threshold {
		threshold, _, err := ParseThreshold(text)
		if err != nil {
			t.Fatal(err)
		}
		return threshold
	}
	for _, row := range []struct {
		name string
		m    Measure
		want int64
		ok   bool
	}{
		{"150 of 200", Measure{Numbers: Numbers{Count: 150, Threshold: Threshold{N: 200}}}, 75, true},
		{"rounded down", Measure{Numbers: Numbers{Count: 199, Threshold: Threshold{N: 200}}}, 99, true},
		{"below none", Measure{Numbers: Numbers{Count: -1, Threshold: Threshold{N: 200}}}, -1, true},
		{"of a threshold of 0", Measure{Numbers: Numbers{Count: 5}}, 0, false},
		{"31 of 58, where 50% are too many", Measure{Numbers: Numbers{Count: 31, Threshold: threshold("50%"), Base: 58}}, 106, true},
		{"a share of nothing", Measure{Numbers: Numbers{Count: 31, Threshold: threshold("50%")}}, 0, false},
		{"130, where 2.5 times 260 by 5 are too many", Measure{Numbers: Numbers{Count: 130, Threshold: threshold("2.5x"), Base: 260}, Baseline: Baseline{1, 5}}, 100, true},
		{"more than fits", Measure{Numbers: Numbers{Count: math.MaxInt64, Threshold: Threshold{N: 1}}}, math.MaxInt64, true},
	} {
		if got, ok := row.m.Percent(); got != row.want || ok != row.ok {
			t.Errorf("%s: %d %%, %v; want %d, %v", row.name, got, ok, row.want, row.ok)
		}
	}
}
