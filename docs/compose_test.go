package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/audit-milter/audit-milter/internal/config"
)

// What docker itself says of the file only docker can tell; that it fits its surroundings
// can be seen here.
func TestTheComposeFileFitsWhatItNames(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Build    yaml.Node
			Volumes  []string
			Networks map[string]struct {
				Address string `yaml:"ipv4_address"`
			}
		}
	}
	data, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &compose); err != nil {
		t.Fatal(err)
	}
	milters := make(map[string]bool) // where nodes listen
	for _, node := range []string{"mx1", "mx2"} {
		milters[compose.Services[node].Networks["mail"].Address+":9900"] = true
	}
	behind := make(map[string]bool)  // milters that a Postfix has
	owner := make(map[string]string) // of an address in the network of the milters
	for name, service := range compose.Services {
		if mail, ok := service.Networks["mail"]; ok {
			if mail.Address == "" {
				t.Errorf("%s has no fixed address: it may be given a node's", name)
			}
			if other := owner[mail.Address]; other != "" {
				t.Errorf("%s and %s have one address, %q", name, other, mail.Address)
			}
			owner[mail.Address] = name
		}
		for _, v := range service.Volumes {
			file, _, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(file, ".") {
				continue // a volume of docker's own
			}
			if _, err := os.Stat(filepath.Join("..", file)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		var build struct {
			Context, Dockerfile string
			Args                struct {
				Milter string `yaml:"MILTER"`
			}
		}
		if service.Build.Decode(&build) != nil || build.Context == "" {
			continue // the project itself, or an image of others
		}
		if _, err := os.Stat(filepath.Join("..", build.Context, build.Dockerfile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !milters[build.Args.Milter] {
			t.Errorf("%s has the milter %q, and no node listens there", name, build.Args.Milter)
		}
		behind[build.Args.Milter] = true
	}
	if len(milters) != 2 || len(behind) != 2 {
		t.Errorf("the nodes listen at %v, and the mail servers have %v", milters, behind)
	}
}

func TestTheConfigurationOfTheComposeFileIsRight(t *testing.T) {
	conf, err := config.Load("../examples/cluster/audit-milter.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if conf.Cluster == nil || len(conf.Policy.Series) == 0 {
		t.Error("it names no cluster, or no series")
	}
}
