package ecr

import (
	"fmt"
	"regexp"
	"strings"
)

// publicHost is the one registry that all accounts share. Its service is in one region.
const (
	publicHost   = "public.ecr.aws"
	publicRegion = "us-east-1"
)

// service is where credentials for a registry are asked for.
type service struct {
	endpoint, region string
	// signing is the name of the service in signatures, target what the X-Amz-Target header begins with.
	signing, target string
}

// registryHost has the groups account, style of the address, FIPS, region and domain.
func registryHost() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9]{12}\.dkr(\.|-)ecr(-fips)?\.([a-z0-9]+(?:-[a-z0-9]+)+)\.` +
		`(amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn)$`)
}

// find returns the service of a registry (https://docs.aws.amazon.com/general/latest/gr/ecr.html).
func find(host string) (service, bool) {
	host = strings.ToLower(host)
	if host == publicHost {
		return service{
			endpoint: "https://api.ecr-public." + publicRegion + ".amazonaws.com/", region: publicRegion,
			signing: "ecr-public", target: "SpencerFrontendService",
		}, true
	}
	m := registryHost().FindStringSubmatch(host)
	if m == nil {
		return service{}, false
	}
	fips, region, domain := m[2] != "", m[3], m[4]
	s := service{region: region, signing: "ecr", target: "AmazonEC2ContainerRegistry_V20150921"}
	switch {
	case domain == "on.aws": // the addresses that speak IPv6 too
		s.endpoint = fmt.Sprintf("https://ecr%s.%s.api.aws/", m[2], region)
	case strings.HasPrefix(domain, "on."):
		s.endpoint = fmt.Sprintf("https://ecr%s.%s.api.amazonwebservices.com.cn/", m[2], region)
	case fips:
		s.endpoint = fmt.Sprintf("https://ecr-fips.%s.%s/", region, domain)
	default:
		s.endpoint = fmt.Sprintf("https://api.ecr.%s.%s/", region, domain)
	}
	return s, true
}
