# SPDX-License-Identifier: Apache-2.0
# bash completion for nopspan: the commands, options and values that `nopspan [COMMAND] --help` lists.
_nopspan() {
  local current=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]} command='' value='' word words help
  # bash makes three words of --from=x
  if [[ $current == = ]]; then
    current=''
  elif [[ $option == = ]]; then
    option=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word == -* ]] || { command=$word && break; }
  done
  help=$'\n'$(command "${COMP_WORDS[0]}" ${command:+"$command"} --help 2>/dev/null)
  words=$'\n  (-., )?'$option$' ([^ \n]+)'
  [[ $option == -* && $help =~ $words ]] && value=${BASH_REMATCH[2]}
  words=''
  case $value in
    *'{'*'}') value=${value#*\{} words=${value%\}} words=${words//,/ } ;;
    '')
      if [[ $current == -* || -z $command ]]; then
        words=$(sed -nE 's/^  (-., )?(--[a-z-]+).*/\2/p; /^Commands:/,/^$/s/^  ([a-z]+) .*/\1/p' <<<"$help")
      elif [[ $help =~ $'\nUsage: '[^$'\n']*FILE ]]; then
        value=FILE
      fi
      ;;
  esac
  COMPREPLY=()
  if [[ $value == FILE* ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  elif [[ -n $words ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  fi
}
complete -F _nopspan nopspan
